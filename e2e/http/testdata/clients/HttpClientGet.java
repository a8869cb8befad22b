import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Prints what java.net.http.HttpClient gets of each URL; the proxy is in the system's properties. */
class HttpClientGet {
    public static void main(String[] urls) throws Exception {
        Authenticator authenticator = new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                if (getRequestorType() != RequestorType.PROXY) {
                    return null;
                }
                return new PasswordAuthentication("agent", System.getenv("PROXY_PASSWORD").toCharArray());
            }
        };
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).authenticator(authenticator).build();
        for (String url : urls) {
            var response = client.send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.ofString());
            if (response.statusCode() != 200) {
                System.err.println("status " + response.statusCode() + "\n" + response.body());
                System.exit(1);
            }
            System.out.println(response.body());
        }
    }
}
