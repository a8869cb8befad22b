import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;

/** Prints what java.net.HttpURLConnection gets of each URL; the proxy is in the system's properties. */
class URLConnectionGet {
    public static void main(String[] urls) throws Exception {
        Authenticator.setDefault(new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                if (getRequestorType() != RequestorType.PROXY) {
                    return null;
                }
                return new PasswordAuthentication("agent", System.getenv("PROXY_PASSWORD").toCharArray());
            }
        });
        for (String url : urls) {
            try (var in = URI.create(url).toURL().openStream()) {
                System.out.println(new String(in.readAllBytes()));
            }
        }
    }
}
