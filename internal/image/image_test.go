package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var meta = Meta{Name: "localhost/sluice:test", Version: "v1.2.3", Created: time.Unix(1700000000, 0).UTC()}

// sample are the files of an image for two architectures.
func sample(t testing.TB) map[string][]File {
	t.Helper()
	roots, err := Roots()
	require.NoError(t, err)
	all := map[string][]File{}
	for _, arch := range []string{"amd64", "arm64"} {
		all[arch] = []File{
			{Path: RootsPath, Mode: 0o644, Data: roots},
			{Path: "/sluice-netsetup", Mode: 0o755, Data: []byte("privileged " + arch), Capabilities: NetAdmin | NetRaw},
			{Path: "/sluice", Mode: 0o755, Data: []byte("facing the network " + arch)},
		}
	}
	return all
}

func archive(t testing.TB) []byte {
	t.Helper()
	index, err := Index(sample(t), meta)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, WriteArchive(&b, index, meta))
	return b.Bytes()
}

// unpack writes a tar file's content into a folder. What is no file or folder, or
// leads out, is refused.
func unpack(t testing.TB, r io.Reader, dir string) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		require.True(t, filepath.IsLocal(h.Name), h.Name)
		name := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			require.NoError(t, os.MkdirAll(name, 0o755))
		case tar.TypeReg:
			text, err := io.ReadAll(tr)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(name, text, 0o600))
		default:
			t.Fatalf("%s: type %q", h.Name, h.Typeflag)
		}
	}
}

// open unpacks the archive and returns the folder and the index of its images.
func open(t testing.TB) (dir string, images v1.ImageIndex) {
	t.Helper()
	dir = t.TempDir()
	unpack(t, bytes.NewReader(archive(t)), dir)
	outer, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	require.NoError(t, validate.Index(outer), "digests, sizes, media types, history against layers")
	m, err := outer.IndexManifest()
	require.NoError(t, err)
	require.Len(t, m.Manifests, 1)
	require.Equal(t, types.OCIImageIndex, m.Manifests[0].MediaType)
	require.Equal(t, meta.Name, m.Manifests[0].Annotations["org.opencontainers.image.ref.name"])
	images, err = outer.ImageIndex(m.Manifests[0].Digest)
	require.NoError(t, err)
	return dir, images
}

func TestSameBytesTwice(t *testing.T) {
	t.Parallel()
	require.Equal(t, sha256.Sum256(archive(t)), sha256.Sum256(archive(t)))
}

// TestLayout checks by the words of the OCI layout specification, without the
// library that wrote it.
func TestLayout(t *testing.T) {
	t.Parallel()
	dir, _ := open(t)
	text, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	require.NoError(t, err)
	require.JSONEq(t, `{"imageLayoutVersion": "1.0.0"}`, string(text))
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	require.NoError(t, err)
	require.Len(t, blobs, 1+2*3, "an index; for each of two a manifest, a configuration, a layer")
	for _, blob := range blobs {
		text, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", blob.Name()))
		require.NoError(t, err)
		sum := sha256.Sum256(text)
		require.Equal(t, blob.Name(), hex.EncodeToString(sum[:]))
	}
	text, err = os.ReadFile(filepath.Join(dir, "index.json"))
	require.NoError(t, err)
	var index struct {
		SchemaVersion int
		Manifests     []struct{ Digest string }
	}
	require.NoError(t, json.Unmarshal(text, &index))
	require.Equal(t, 2, index.SchemaVersion)
	require.FileExists(t, filepath.Join(dir, "blobs", strings.ReplaceAll(index.Manifests[0].Digest, ":", "/")))
}

func TestImages(t *testing.T) {
	t.Parallel()
	_, index := open(t)
	m, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, m.Manifests, 2)
	for i, arch := range []string{"amd64", "arm64"} {
		require.Equal(t, "linux/"+arch, m.Manifests[i].Platform.String())
		require.Equal(t, types.OCIManifestSchema1, m.Manifests[i].MediaType)
		img, err := index.Image(m.Manifests[i].Digest)
		require.NoError(t, err)
		c, err := img.ConfigFile()
		require.NoError(t, err)
		require.Equal(t, arch, c.Architecture)
		require.Equal(t, "linux", c.OS)
		require.Equal(t, meta.Created, c.Created.Time)
		require.Equal(t, "65534:65534", c.Config.User)
		require.Equal(t, []string{"/sluice"}, c.Config.Entrypoint)
		require.Empty(t, c.Config.Cmd, "no command: the environment picks the mode")
		require.Contains(t, c.Config.Env, "SLUICE_ADMIN=:9090")
		require.Empty(t, c.Config.Volumes, "nothing is written")
		require.Equal(t, "v1.2.3", c.Config.Labels["org.opencontainers.image.version"])
		require.Equal(t, map[string]string{
			"etc/": "drwxr-xr-x", "etc/ssl/": "drwxr-xr-x", "etc/ssl/certs/": "drwxr-xr-x",
			RootsPath[1:]: "-rw-r--r--", "sluice": "-rwxr-xr-x", "sluice-netsetup": "-rwxr-xr-x",
		}, content(t, img))
	}
}

// content is what is in the image's layer, with modes. All of it is root's, and
// only sluice-netsetup has capabilities.
func content(t testing.TB, img v1.Image) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	text, err := layers[0].Uncompressed()
	require.NoError(t, err)
	defer text.Close()
	modes := map[string]string{}
	seen := map[string]bool{"./": true}
	for tr := tar.NewReader(text); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return modes
		}
		require.NoError(t, err)
		require.True(t, seen[path.Dir(strings.TrimSuffix(h.Name, "/"))+"/"], "%s comes before its folder", h.Name)
		seen[h.Name] = true
		modes[h.Name] = h.FileInfo().Mode().String()
		assert.Zero(t, h.Uid+h.Gid, h.Name)
		assert.Equal(t, meta.Created, h.ModTime.UTC(), h.Name)
		caps := h.PAXRecords["SCHILY.xattr.security.capability"]
		if h.Name == "sluice-netsetup" {
			// cap_net_admin,cap_net_raw=p, as setcap writes it.
			assert.Equal(t, "0000000200300000000000000000000000000000", hex.EncodeToString([]byte(caps)))
		} else {
			assert.Empty(t, caps, h.Name)
		}
	}
}

func TestRoots(t *testing.T) {
	t.Parallel()
	text, err := Roots()
	require.NoError(t, err)
	n := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		_, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		n++
	}
	require.Greater(t, n, 100)
	require.True(t, x509.NewCertPool().AppendCertsFromPEM(text))
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"sluice", "/../sluice", "/a//b", "/a/", ""} {
		_, err := Index(map[string][]File{"amd64": {{Path: p}}}, meta)
		require.ErrorContains(t, err, "not absolute and clean", p)
	}
}
