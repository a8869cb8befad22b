package image

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// WriteArchive writes the index as an OCI archive, a tar file of an OCI image
// layout: what "podman load", "docker load", "ctr images import" and "skopeo copy
// oci-archive:" read.
func WriteArchive(w io.Writer, index v1.ImageIndex, m Meta) error {
	dir, err := os.MkdirTemp("", "sluice-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	outer := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index, Descriptor: v1.Descriptor{
		Annotations: map[string]string{
			"org.opencontainers.image.ref.name": m.Name, // podman, skopeo
			"io.containerd.image.name":          m.Name, // containerd, docker
		},
	}})
	if _, err := layout.Write(dir, outer); err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	root := os.DirFS(dir)
	// WalkDir goes in the order of names: the same layout gives the same archive.
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			return tw.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: m.Created})
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text)), ModTime: m.Created}); err != nil {
			return err
		}
		_, err = tw.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	return tw.Close()
}
