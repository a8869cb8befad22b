//go:build linux

package peers

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// Of the benchmark's own clients: their namespace in the directory, and the last tenant's
// user. All users have one password.
const (
	ClientNamespace = "bench"
	UserName        = "bench"
	Password        = "a password"
)

// UserOf is the name of one of Users.
func UserOf(i int) string { return fmt.Sprint("user-", i) }

// Basic is a field's value that shows a name and a password.
func Basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// current is the link to the folder of the configuration in force, as in a ConfigMap.
const current = "current"

// writeTenants writes the configuration, and returns its path.
func (s Setup) writeTenants() (path string, err error) {
	if err := errors.Join(s.WriteTenants(0), s.UseTenants(0)); err != nil {
		return "", err
	}
	return filepath.Join(s.Dir, current, "sluice.yaml"), nil
}

// WriteTenants writes a configuration with tenants, all of whose rules are others for each
// version. The last tenant is that of the benchmark's clients: by their pods, or by their
// user.
func (s Setup) WriteTenants(version int) error {
	write := func(name, text string) error {
		_, err := s.write(filepath.Join(folder(version), name), text)
		return err
	}
	var b strings.Builder
	if s.Directory != "" {
		fmt.Fprintf(&b, "directory: %s\n", s.Directory)
	}
	b.WriteString("tenants:\n")
	for i := range s.Tenants {
		rules := fmt.Sprintf("t%d.rules", i)
		if err := write(rules, rulesFrom((i+version)*DefaultRules, DefaultRules)); err != nil {
			return err
		}
		who := fmt.Sprintf("namespaces: %s", NamespaceOf(i))
		switch last := i == s.Tenants-1; {
		case last && s.Authorization != "":
			who = "users: " + UserName
		case last:
			who = "namespaces: " + ClientNamespace
		}
		fmt.Fprintf(&b, "- {name: t%d, rulesFile: %s, %s}\n", i, rules, who)
	}
	if s.Authorization != "" || s.Users > 0 {
		if err := s.writeUsers(&b, write); err != nil {
			return err
		}
	}
	return write("sluice.yaml", b.String())
}

func folder(version int) string { return fmt.Sprint("version-", version) }

// UseTenants puts a version that is written in the place of the one before, at once.
func (s Setup) UseTenants(version int) error {
	link := filepath.Join(s.Dir, current)
	if err := os.Symlink(folder(version), link+".new"); err != nil {
		return err
	}
	return os.Rename(link+".new", link)
}

// writeUsers writes the users' file, and a tenant for those beside UserName. Clients
// without a password have the rules of the top level.
func (s Setup) writeUsers(b *strings.Builder, write func(name, text string) error) error {
	hash, err := hashed()
	if err != nil {
		return err
	}
	names := []string{UserName}
	for i := range s.Users {
		names = append(names, UserOf(i))
	}
	if err := write("users", strings.Join(names, ":"+hash+"\n")+":"+hash+"\n"); err != nil {
		return err
	}
	mode := "required"
	if s.Users > 0 {
		mode = "optional"
		fmt.Fprintf(b, "- {name: people, users: [%s], rules: %q}\nrules: %[2]q\n", strings.Join(names[1:], ", "), lastRule)
	}
	fmt.Fprintf(b, "usersFile: users\nauthenticate: %s\n", mode)
	return nil
}

// hashed is the password as htpasswd -B makes it, by its usual cost.
var hashed = sync.OnceValues(func() (string, error) {
	h, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.DefaultCost)
	return string(h), err
})

// NamespaceOf is the namespace of a tenant that is not the last.
func NamespaceOf(tenant int) string { return fmt.Sprint("ns-", tenant) }
