// Package image makes Sluice's container image without a container engine: an OCI
// archive with an image for each architecture, out of files that the caller
// brings. The same files give the same bytes, on every machine.
package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// User is whom the image runs as: nobody, by number, so that runAsNonRoot can be
// judged without an /etc/passwd.
const User = "65534:65534"

// File is a file of the image.
type File struct {
	Path string // absolute
	Mode int64
	Data []byte
	// Capabilities are given to whoever runs the file, as far as the container has
	// them (setcap …=ep).
	Capabilities Capabilities
}

// Meta is what is said about the image.
type Meta struct {
	Name    string    // NAME:TAG that engines give the loaded image
	Version string    // of the program
	Created time.Time // of the source, not of the build; of files too
}

// Capabilities is a set of Linux capabilities.
type Capabilities uint32

// What sluice-netsetup works with.
const (
	NetAdmin Capabilities = 1 << 12
	NetRaw   Capabilities = 1 << 13
)

// XattrName is the extended attribute that holds a file's capabilities.
const XattrName = "security.capability"

// Xattr is the value of that attribute: struct vfs_cap_data, revision 2, with the
// capabilities permitted, for the program to make effective: with the effective bit
// the kernel refuses to start it in a container that withholds one of them.
func (c Capabilities) Xattr() []byte {
	const revision2 = 0x02000000
	b := binary.LittleEndian.AppendUint32(nil, revision2)
	b = binary.LittleEndian.AppendUint32(b, uint32(c)) // permitted, 0 to 31
	return append(b, make([]byte, 12)...)              // inheritable, and 32 to 63
}

// Index is the image for each architecture of files, in one index.
func Index(files map[string][]File, m Meta) (v1.ImageIndex, error) {
	var images []mutate.IndexAddendum
	for _, arch := range sortedKeys(files) {
		img, err := single(arch, files[arch], m)
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", arch, err)
		}
		images = append(images, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
	}
	return mutate.AppendManifests(empty.Index, images...), nil
}

// single is the image for one architecture.
func single(arch string, files []File, m Meta) (v1.Image, error) {
	text, err := layer(files, m.Created)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: m.Created}, CreatedBy: "make image"}})
	if err != nil {
		return nil, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	c.Created = v1.Time{Time: m.Created}
	c.Config = v1.Config{
		User:       User,
		WorkingDir: "/",
		Entrypoint: []string{"/sluice"},
		Env: []string{
			"PATH=/", // for "kubectl exec … -- sluice acl test"
			// Probes and Prometheus come from outside the pod.
			"SLUICE_ADMIN=:9090",
		},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "9090/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "sluice",
			"org.opencontainers.image.description": "Egress gateway, successor of the OpenShift egress router",
			"org.opencontainers.image.version":     m.Version,
			"org.opencontainers.image.licenses":    "Apache-2.0",
		},
	}
	return mutate.ConfigFile(img, c)
}

// layer is a tar file of the files and of the folders that they need, all root's:
// nothing in the image can be changed by who runs it.
func layer(files []File, created time.Time) ([]byte, error) {
	entries := map[string]*File{}
	for _, f := range files {
		if !strings.HasPrefix(f.Path, "/") || path.Clean(f.Path) != f.Path {
			return nil, fmt.Errorf("path %q of a file is not absolute and clean", f.Path)
		}
		entries[f.Path] = &f
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			entries[dir] = nil
		}
	}
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, name := range sortedKeys(entries) { // a folder sorts before what is in it
		h := &tar.Header{Name: name[1:] + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: created, Format: tar.FormatPAX}
		f := entries[name]
		if f != nil {
			h.Name, h.Typeflag, h.Mode, h.Size = name[1:], tar.TypeReg, f.Mode, int64(len(f.Data))
			if f.Capabilities != 0 {
				h.PAXRecords = map[string]string{"SCHILY.xattr." + XattrName: string(f.Capabilities.Xattr())}
			}
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if f != nil {
			if _, err := w.Write(f.Data); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
