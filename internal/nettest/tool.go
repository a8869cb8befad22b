package nettest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Tool is the path of a program that scripts/build-NAME.sh has built, from the module of that
// version in tools/FOLDER/go.mod. root is the folder of this module. Its error says that it is not
// there, and what builds it.
func Tool(root, folder, name, module string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(root, "tools", folder, "go.mod"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(module) + ` (v[0-9.]+)`).FindSubmatch(mod)
	if m == nil {
		return "", fmt.Errorf("tools/%s/go.mod names no version of %s", folder, module)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "sluice", name+"-"+string(m[1]))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no %s: scripts/build-%s.sh builds it", name, name)
	}
	return path, nil
}
