package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// bytesCodec has gRPC carry bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (bytesCodec) Name() string { return "bytes" }

// startGRPC starts a gateway in front of a gRPC server whose every method is a stream that goes
// back and forth; what ends in /Fails fails.
func startGRPC(t *testing.T) (*insideGate, *grpc.ClientConn) {
	t.Helper()
	of := nettest.NewCA(t)
	own := of.Issue("api.test")
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&own)), grpc.ForceServerCodec(bytesCodec{}),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			if name, _ := grpc.MethodFromServerStream(s); name == "/test.Echo/Fails" {
				return status.Error(codes.NotFound, "no such thing")
			}
			in, _ := metadata.FromIncomingContext(s.Context())
			s.SetTrailer(metadata.Pairs("x-authorized", fmt.Sprint(in["authorization"])))
			for {
				var b []byte
				switch err := s.RecvMsg(&b); {
				case err == io.EOF:
					return nil
				case err != nil:
					return err
				}
				if err := s.SendMsg(&b); err != nil {
					return err
				}
			}
		}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	g := &insideGate{}
	g.use(t, of.Pool, l.Addr().String(), func(in *policy.Inspected, _ *Options) {
		in.Requests = requestRules(t, "POST /test.Echo/**")
		in.Headers = []policy.Header{policy.NewHeader("Authorization", "", []byte("short"))}
	})
	cc, err := grpc.NewClient("passthrough:///"+g.target, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: g.roots})),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			c := g.dial(t)
			c.send(t, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", g.target)
			c.head(t)
			return c.TCPConn, nil
		}))
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return g, cc
}

func TestInsideGRPC(t *testing.T) {
	_, cc := startGRPC(t)
	for _, size := range []int{0, 1, 100 << 10, 2 << 20} {
		in, out := make([]byte, size), []byte(nil)
		require.NoError(t, cc.Invoke(t.Context(), "/test.Echo/Unary", &in, &out))
		assert.Len(t, out, size)
	}
	var b []byte
	assert.Equal(t, status.Error(codes.NotFound, "no such thing"), cc.Invoke(t.Context(), "/test.Echo/Fails", &b, &b), "an answer that is a trailer section alone")
	err := cc.Invoke(t.Context(), "/test.Other/Unary", &b, &b)
	assert.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
	assert.Regexp(t, `^Egress denied: no request rule allows it\. net-team@example\.com \(request id [0-9a-f]+\)$`, status.Convert(err).Message())

	s, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Both")
	require.NoError(t, err)
	for i := range 100 {
		said, heard := []byte(fmt.Sprint("word ", i)), []byte(nil)
		require.NoError(t, s.SendMsg(&said))
		require.NoError(t, s.RecvMsg(&heard))
		require.Equal(t, string(said), string(heard))
	}
	require.NoError(t, s.CloseSend())
	assert.Equal(t, io.EOF, s.RecvMsg(&b))
	assert.Equal(t, []string{"[short]"}, s.Trailer()["x-authorized"])
}
