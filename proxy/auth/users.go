package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// MaxCost is the greatest cost of a hash: one check at 16 takes seconds of a processor, and each step doubles that.
const MaxCost = 16

// maxUser is the longest name of a user, in bytes.
const maxUser = 255

var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// Users is the users of a usersFile. It is never changed and may be shared. nil has no users.
// It never shows its hashes.
type Users struct {
	hashes map[string]*user
	list   []*user
	sum    [16]byte // of the text: verdicts about other texts are not about these users
}

type user struct {
	identity *Identity
	hash     []byte
}

// A Problem is one thing that is wrong with a line of a usersFile. Msg says how to mend it,
// and holds nothing of the line but the user's name.
type Problem struct {
	Source string
	Line   int // from 1
	Msg    string
}

// Error reads "SOURCE:LINE: what is wrong".
func (p Problem) Error() string { return p.Source + ":" + strconv.Itoa(p.Line) + ": " + p.Msg }

// Problems is everything that is wrong with a usersFile, in the order of its lines.
type Problems []Problem

// Error is one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, 0, len(ps))
	for _, p := range ps {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}

// ParseUsers reads lines of htpasswd, "name:hash", whole or not at all: on any problem the
// Users are nil and the error is [Problems]. Source names the text in them. Blank lines and
// lines that begin with # are skipped. Hashes are bcrypt's only ($2a$, $2b$, $2y$), of a
// cost of [MaxCost] at most. A text without users is legal.
func ParseUsers(source, text string) (*Users, error) {
	u := &Users{hashes: map[string]*user{}}
	sum := sha256.Sum256([]byte(text))
	copy(u.sum[:], sum[:])
	var problems Problems
	lines := map[string]int{}
	for i, line := range strings.Split(strings.TrimPrefix(text, "\uFEFF"), "\n") {
		line = strings.Trim(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, err := parseUser(line)
		if err == nil && lines[name] > 0 {
			err = fmt.Errorf("user %s stands in line %d already", strconv.Quote(name), lines[name])
		}
		if err != nil {
			problems = append(problems, Problem{source, i + 1, err.Error()})
			continue
		}
		lines[name] = i + 1
		one := &user{NewUser(name), []byte(hash)}
		u.hashes[name] = one
		u.list = append(u.list, one)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return u, nil
}

// parseUser reads "name:hash". Errors show nothing behind the colon, nor a line without one,
// which may be a password.
func parseUser(line string) (name, hash string, err error) {
	name, hash, ok := strings.Cut(line, ":")
	if !ok {
		return "", "", errors.New("no \"name:hash\": make the line with htpasswd -nB NAME")
	}
	if err := checkUser(name); err != nil {
		return "", "", err
	}
	quoted := strconv.Quote(name)
	if !bcryptHash.MatchString(hash) {
		return "", "", fmt.Errorf("user %s: %s; make the line anew with htpasswd -nB NAME", quoted, otherHash(hash))
	}
	switch cost, err := bcrypt.Cost([]byte(hash)); {
	case err != nil:
		return "", "", fmt.Errorf("user %s: not a bcrypt hash (its cost is from 4 to 31); make the line anew with htpasswd -nB NAME", quoted)
	case cost > MaxCost:
		return "", "", fmt.Errorf("user %s: a bcrypt cost of %d is above %d: each login would take many seconds of a processor; make the line anew with htpasswd -nB -C 10 NAME", quoted, cost, MaxCost)
	}
	return name, hash, nil
}

// checkUser refuses names that Basic cannot carry, or that a log would take for somebody else's.
func checkUser(name string) error {
	switch {
	case name == "":
		return errors.New("no name of a user in front of the colon")
	case len(name) > maxUser:
		return fmt.Errorf("a user's name of %d bytes; it may have %d", len(name), maxUser)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("user %s: a name is UTF-8 without control characters", strconv.Quote(name))
	case strings.Trim(name, " \t") != name:
		return fmt.Errorf("user %s: a blank before the colon", strconv.Quote(name))
	case strings.ContainsAny(name, ":/"):
		return fmt.Errorf("user %s: a name has no colon, which ends it, and no \"/\", which tells a service account from a user", strconv.Quote(name))
	}
	return nil
}

// otherHash says what kind of hash this is, as far as its first bytes tell.
func otherHash(hash string) string {
	switch {
	case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"):
		return "an MD5 hash; only bcrypt is taken"
	case strings.HasPrefix(hash, "{SHA}"), strings.HasPrefix(hash, "{SSHA}"):
		return "a SHA-1 hash; only bcrypt is taken"
	case strings.HasPrefix(hash, "$5$"), strings.HasPrefix(hash, "$6$"):
		return "a SHA-2 crypt hash; only bcrypt is taken"
	case strings.HasPrefix(hash, "$2x$"):
		return "a hash of the bcrypt whose passwords were read wrongly ($2x$)"
	case strings.HasPrefix(hash, "$2"):
		return "not a whole bcrypt hash of 60 characters"
	default:
		return "not a bcrypt hash (a crypt hash, or a password in the clear?)"
	}
}

// Len is the number of users.
func (u *Users) Len() int {
	if u == nil {
		return 0
	}
	return len(u.list)
}

// Has reports whether name is a user: for checks of a configuration, not for answers to clients.
func (u *Users) Has(name string) bool { return u != nil && u.hashes[name] != nil }

// Names are those of the users, in order.
func (u *Users) Names() []string {
	if u == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(u.hashes))
}

// OtherPasswords are the users that before has too, with another hash, in order.
func (u *Users) OtherPasswords(before *Users) (names []string) {
	for _, name := range u.Names() {
		if before.Has(name) && !bytes.Equal(u.hashes[name].hash, before.hashes[name].hash) {
			names = append(names, name)
		}
	}
	return names
}

// Format writes the number of users, whatever the verb.
func (u *Users) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%d users", u.Len()) }

// check runs bcrypt, for as long when there is no such user as when there is one: an unknown
// name is checked against the hash of a user that pick chooses, whatever comes out of it. So
// the times that unknown names take are as many, and as often, as those of the users.
func (u *Users) check(name, password []byte, pick [16]byte) Verdict {
	if u.Len() == 0 {
		return Verdict{Outcome: Wrong}
	}
	who, known := u.hashes[string(name)]
	if !known {
		who = u.standIn(pick)
	}
	err := bcrypt.CompareHashAndPassword(who.hash, password)
	if err != nil || !known {
		return Verdict{Outcome: Wrong}
	}
	return Verdict{Outcome: Good, Identity: who.identity}
}

// standIn is the user whose hash an unknown name is checked against.
func (u *Users) standIn(pick [16]byte) *user {
	return u.list[binary.LittleEndian.Uint64(pick[:])%uint64(len(u.list))]
}
