package main

import (
	"bytes"
	"crypto/sha1" // as a name of contents, not for safety
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/sluiceproxy/sluice/internal/image"
)

// sbom writes what is in the programs of each architecture, and in the image (SPDX 2.3): what
// the programs themselves say that they were built from.
func (r *release) sbom() error {
	for _, arch := range architectures {
		b := r.newBill("sluice_" + r.number + "_linux_" + arch)
		whole := b.whole("sluice", "sluice_"+r.number+"_linux_"+arch+".tar.gz", "APPLICATION")
		if err := b.programs(whole, arch, r.programs[arch]); err != nil {
			return err
		}
		if err := b.write(); err != nil {
			return err
		}
	}
	b := r.newBill("sluice_" + r.number + "_image")
	whole := b.whole("sluice-image", r.imageName(), "CONTAINER")
	for _, arch := range architectures {
		if err := b.programs(whole, arch, r.programs[arch]); err != nil {
			return err
		}
	}
	roots, err := rootsModule()
	if err != nil {
		return err
	}
	b.relate(whole, "CONTAINS", b.module(roots.Path, roots.Version, roots.Sum))
	return b.write()
}

// bill is a document in the making.
type bill struct {
	r       *release
	doc     *v2_3.Document
	modules map[string]common.ElementID
}

func (r *release) newBill(name string) *bill {
	text := sha256.New()
	for _, arch := range architectures {
		for _, program := range image.Programs {
			text.Write(r.programs[arch][program])
		}
	}
	return &bill{r: r, modules: map[string]common.ElementID{}, doc: &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: fmt.Sprintf("https://github.com/sluiceproxy/sluice/spdx/%s-%x", name, text.Sum(nil)),
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "sluice-release-" + r.Version}},
			Created:  r.Date.Format(time.RFC3339),
		},
	}}
}

const unknown = "NOASSERTION"

// whole is what the document is about.
func (b *bill) whole(name, file, purpose string) common.ElementID {
	p := &v2_3.Package{
		PackageName: name, PackageSPDXIdentifier: "Package-" + common.ElementID(name), PackageVersion: b.r.Version, PackageFileName: file,
		PackageDownloadLocation: "git+https://github.com/sluiceproxy/sluice@" + b.r.Commit, IsFilesAnalyzedTagPresent: true,
		PackageLicenseConcluded: "Apache-2.0", PackageLicenseDeclared: "Apache-2.0", PackageCopyrightText: unknown, PrimaryPackagePurpose: purpose,
	}
	b.doc.Packages = append(b.doc.Packages, p)
	b.relate("DOCUMENT", "DESCRIBES", p.PackageSPDXIdentifier)
	return p.PackageSPDXIdentifier
}

// programs are in whole, and depend on the modules that are in them.
func (b *bill) programs(whole common.ElementID, arch string, programs map[string][]byte) error {
	for _, name := range image.Programs {
		info, err := buildinfo.Read(bytes.NewReader(programs[name]))
		if err != nil {
			return fmt.Errorf("what %s for %s was built from: %w", name, arch, err)
		}
		id := common.ElementID("File-" + arch + "-" + name)
		b.doc.Files = append(b.doc.Files, &v2_3.File{
			FileName: "./" + arch + "/" + name, FileSPDXIdentifier: id, FileTypes: []string{"BINARY"}, FileCopyrightText: unknown, LicenseConcluded: unknown,
			Checksums: []common.Checksum{ // SHA-1 is what SPDX 2.3 wants of every file
				{Algorithm: common.SHA1, Value: sha1Of(programs[name])},
				{Algorithm: common.SHA256, Value: fmt.Sprintf("%x", sha256.Sum256(programs[name]))},
			},
		})
		b.relate(whole, "CONTAINS", id)
		b.relate(id, "DEPENDS_ON", b.module("stdlib", strings.TrimPrefix(info.GoVersion, "go"), ""))
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			b.relate(id, "DEPENDS_ON", b.module(m.Path, m.Version, m.Sum))
		}
	}
	return nil
}

// module is a module of other people's; sum is as in go.sum.
func (b *bill) module(path, version, sum string) common.ElementID {
	key := path + "@" + version
	if id := b.modules[key]; id != "" {
		return id
	}
	id := common.ElementID("Module-" + regexp.MustCompile(`[^A-Za-z0-9.-]`).ReplaceAllString(key, "-"))
	b.modules[key] = id
	p := &v2_3.Package{
		PackageName: path, PackageSPDXIdentifier: id, PackageVersion: version, PackageDownloadLocation: unknown, IsFilesAnalyzedTagPresent: true,
		PackageLicenseConcluded: unknown, PackageLicenseDeclared: unknown, PackageCopyrightText: unknown, PrimaryPackagePurpose: "LIBRARY",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B"),
		}},
	}
	if sum != "" {
		p.PackageSourceInfo = "go.sum: " + sum
	}
	b.doc.Packages = append(b.doc.Packages, p)
	return id
}

func (b *bill) relate(from common.ElementID, how string, to common.ElementID) {
	b.doc.Relationships = append(b.doc.Relationships, &v2_3.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: how,
	})
}

func (b *bill) write() error {
	var text bytes.Buffer
	if err := json.Write(b.doc, &text, json.Indent("  "), json.EscapeHTML(false)); err != nil {
		return err
	}
	return b.r.write(b.doc.DocumentName+".spdx.json", text.Bytes())
}

func sha1Of(text []byte) string { return fmt.Sprintf("%x", sha1.Sum(text)) }

// rootsModule is where the image's root certificates are from: a module of this program's.
func rootsModule() (*debug.Module, error) {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range info.Deps {
			if m.Path == "golang.org/x/crypto/x509roots/fallback" {
				return m, nil
			}
		}
	}
	return nil, errors.New("this program does not know the version of its root certificates")
}
