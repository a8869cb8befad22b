//go:build linux

package release

import (
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The lists of what is in a release are of the programs that are in it, with every module
// that those say they have.
func TestSBOM(t *testing.T) {
	for name, archs := range map[string][]string{"linux_amd64": {"amd64"}, "linux_arm64": {"arm64"}, "image": {"amd64", "arm64"}} {
		f, err := os.Open(filepath.Join(release(t), "sluice_"+number+"_"+name+".spdx.json"))
		require.NoError(t, err)
		defer f.Close()
		doc, err := json.Read(f)
		require.NoError(t, err)
		require.NoError(t, spdxlib.ValidateDocument(doc))
		assert.Equal(t, "SPDX-2.3", doc.SPDXVersion)
		assert.Equal(t, "2026-11-29T12:00:00Z", doc.CreationInfo.Created)
		described, err := spdxlib.GetDescribedPackageIDs(doc)
		require.NoError(t, err)
		require.Len(t, described, 1)

		packages, files, ids := map[string]spdx.ElementID{}, map[string]*spdx.File{}, map[spdx.ElementID]bool{}
		for _, p := range doc.Packages {
			require.False(t, ids[p.PackageSPDXIdentifier], "%s is there twice", p.PackageSPDXIdentifier)
			require.Regexp(t, `^[A-Za-z0-9.-]+$`, string(p.PackageSPDXIdentifier))
			ids[p.PackageSPDXIdentifier] = true
			for _, r := range p.PackageExternalReferences {
				packages[r.Locator] = p.PackageSPDXIdentifier
			}
		}
		needs := map[string]bool{}
		for _, r := range doc.Relationships {
			needs[string(r.RefA.ElementRefID)+" "+r.Relationship+" "+string(r.RefB.ElementRefID)] = true
		}
		for _, file := range doc.Files {
			files[file.FileName] = file
		}
		modules := 0
		for _, arch := range archs {
			for _, program := range []string{"sluice", "sluice-netsetup", "sluice-kube"} {
				path := filepath.Join(unpacked(t, arch), program)
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				file := files["./"+arch+"/"+program]
				require.NotNil(t, file, "%s: %s for %s", name, program, arch)
				require.True(t, needs[string(described[0])+" CONTAINS "+string(file.FileSPDXIdentifier)])
				assert.Contains(t, file.Checksums, spdx.Checksum{Algorithm: spdx.SHA256, Value: fmt.Sprintf("%x", sha256.Sum256(text))})
				info, err := buildinfo.ReadFile(path)
				require.NoError(t, err)
				for _, m := range info.Deps {
					id := packages["pkg:golang/"+m.Path+"@"+strings.ReplaceAll(m.Version, "+", "%2B")]
					require.NotEmpty(t, id, m.Path)
					assert.True(t, needs[string(file.FileSPDXIdentifier)+" DEPENDS_ON "+string(id)], "%s of %s", m.Path, program)
					modules++
				}
				assert.NotEmpty(t, packages["pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go")])
			}
		}
		assert.Greater(t, modules, 50*len(archs))
		_, hasRoots := firstWith(packages, "pkg:golang/golang.org/x/crypto/x509roots/fallback@")
		assert.Equal(t, name == "image", hasRoots, name)
	}
}

func firstWith(m map[string]spdx.ElementID, prefix string) (spdx.ElementID, bool) {
	for k, v := range m {
		if strings.HasPrefix(k, prefix) {
			return v, true
		}
	}
	return "", false
}
