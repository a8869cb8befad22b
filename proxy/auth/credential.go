package auth

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"unsafe"
)

// A Kind is a form in which a credential can be shown.
type Kind uint8

const (
	None          Kind = iota // the zero Credential: nothing was shown
	Password                  // Basic, with a user's password
	Token                     // Bearer
	PasswordToken             // Basic, with any user name and a token as the password
)

// MaxPassword is the longest password in bytes: bcrypt reads no further, so a longer one is
// refused and never cut. A password longer than this that has three parts of base64url, as a
// JSON Web Token has, is a token.
const MaxPassword = 72

// A Credential is what a client has shown, unjudged. It borrows the bytes of the field that
// it was parsed from, and must not be used once they change. It never shows them: neither
// what formats it, nor what formats a struct that holds it, comes to the secret.
type Credential struct {
	kind Kind
	// A pointer and a length, not a slice: fmt walks through unexported fields of a struct
	// without asking their methods, and would print a slice's bytes.
	data *byte
	n    int
	pass int // Basic: where in the decoded text the password begins
}

func credential(kind Kind, text []byte, pass int) Credential {
	return Credential{kind, unsafe.SliceData(text), len(text), pass}
}

// Kind is the form of c.
func (c Credential) Kind() Kind { return c.kind }

// IsZero reports whether nothing was shown.
func (c Credential) IsZero() bool { return c.kind == None }

// Clone returns a Credential with bytes of its own.
func (c Credential) Clone() Credential { return credential(c.kind, bytes.Clone(c.text()), c.pass) }

// text is the token, or the base64 of user and password.
func (c Credential) text() []byte { return unsafe.Slice(c.data, c.n) }

// String names the kind and hides the rest, the user's name too: people mix up the two.
func (c Credential) String() string {
	switch c.kind {
	case None:
		return "no credential"
	case Password:
		return "Basic [hidden]"
	case PasswordToken:
		return "Basic [hidden token]"
	default:
		return "Bearer [hidden]"
	}
}

// Format writes String, whatever the verb.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// LogValue is String.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText returns String.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// userPassword decodes a credential of Basic. Both slices are new.
func (c Credential) userPassword() (user, password []byte) {
	text := make([]byte, strict.DecodedLen(c.n))
	n, err := strict.Decode(text, c.text())
	if err != nil || n < c.pass || c.pass == 0 {
		return nil, nil // cannot be: Parse has decoded it
	}
	return text[:c.pass-1], text[c.pass:n]
}

// token returns the token of a Token or a PasswordToken, as text of its own.
func (c Credential) token() string {
	if c.kind == Token {
		return string(c.text())
	}
	_, token := c.userPassword()
	return string(token)
}

// Parse reads the values of all Proxy-Authorization fields of a request. The outcome is
// Missing for none, Malformed for several or one that cannot be read, Unsupported for
// another scheme, and Good for a Credential to be verified; in all other cases the Credential is zero.
// Nothing is repaired: base64 has its padding, its alphabet is RFC 4648's section 4, unused bits are zero, and user
// and password hold no control characters (RFC 7617; with a NUL, bcrypt would take "a" and "a\x00a" for one).
func Parse(fields ...[]byte) (Credential, Outcome) {
	switch len(fields) {
	case 0:
		return Credential{}, Missing
	case 1:
	default:
		return Credential{}, Malformed
	}
	field := bytes.Trim(fields[0], " \t")
	end := bytes.IndexByte(field, ' ')
	if end < 0 {
		end = len(field)
	}
	scheme, rest := field[:end], bytes.TrimLeft(field[end:], " ")
	if len(scheme) == 0 || !every(scheme, tchar) {
		return Credential{}, Malformed
	}
	switch {
	case equalFold(scheme, "basic"):
		return parseBasic(rest)
	case equalFold(scheme, "bearer"):
		return parseBearer(rest)
	}
	return Credential{}, Unsupported
}

// ParseLogin is Parse for a user name and a password that came by a protocol which has a place
// for each, such as SOCKS 5. A colon in the name is Malformed: no user of the usersFile has one,
// and Basic would take what stands behind it for the password. The Credential has bytes of its
// own.
func ParseLogin(user, password []byte) (Credential, Outcome) {
	if bytes.IndexByte(user, ':') >= 0 {
		return Credential{}, Malformed
	}
	both := make([]byte, 0, 2*255+1)
	both = append(append(append(both, user...), ':'), password...)
	text := make([]byte, strict.EncodedLen(len(both)))
	strict.Encode(text, both)
	return parseBasic(text)
}

func parseBearer(text []byte) (Credential, Outcome) {
	if body := bytes.TrimRight(text, "="); len(body) == 0 || !every(body, token68) {
		return Credential{}, Malformed
	}
	return credential(Token, text, 0), Good
}

// parseBasic decodes text piece by piece, since a token as a password may have thousands of
// bytes and this runs for each request.
func parseBasic(text []byte) (Credential, Outcome) {
	if len(text) == 0 || len(text)%4 != 0 || !every(bytes.TrimRight(text, "="), base64char) {
		return Credential{}, Malformed // base64 would skip line ends
	}
	var s basicScan
	d := decoder{text: text}
	for d.next() {
		s.scan(d.piece())
	}
	if d.bad || s.control || s.pass == 0 {
		return Credential{}, Malformed
	}
	kind := Password
	if s.n-s.pass > MaxPassword && s.dots == 2 && s.part > 0 && !s.other {
		kind = PasswordToken
	}
	return credential(kind, text, s.pass), Good
}

var strict = base64.StdEncoding.Strict()

// A decoder decodes base64 a piece at a time, in memory of its own.
type decoder struct {
	text []byte // what is left
	buf  [384]byte
	n    int
	bad  bool
}

// next decodes the next piece. It reports false at the end, and when the text is no base64.
func (d *decoder) next() bool {
	const step = len(d.buf) / 3 * 4
	if len(d.text) == 0 {
		clear(d.buf[:])
		return false
	}
	part := d.text[:min(step, len(d.text))]
	d.text = d.text[len(part):]
	if len(d.text) > 0 && part[len(part)-1] == '=' {
		d.bad = true // a padding is at the end alone
		return false
	}
	n, err := strict.Decode(d.buf[:], part)
	d.n, d.bad = n, err != nil
	return err == nil
}

func (d *decoder) piece() []byte { return d.buf[:d.n] }

// A basicScan looks at "user:password" as it is decoded.
type basicScan struct {
	n       int // bytes so far
	pass    int // where the password begins; 0 before the colon
	dots    int
	part    int // bytes since the last dot of the password
	other   bool
	control bool
}

func (s *basicScan) scan(piece []byte) {
	if s.pass == 0 {
		i := bytes.IndexByte(piece, ':') + 1
		user := piece
		if i > 0 {
			user = piece[:i]
			s.pass = s.n + i
		}
		s.control = s.control || !every(user, printable)
		s.n += len(user)
		piece = piece[len(user):]
	}
	s.n += len(piece)
	in := common(piece)
	s.control = s.control || in&printable == 0
	s.other = s.other || in&base64urlOrDot == 0
	for !s.other {
		i := bytes.IndexByte(piece, '.')
		if i < 0 {
			break
		}
		s.other = s.part+i == 0 // an empty part
		s.dots++
		s.part = 0
		piece = piece[i+1:]
	}
	s.part += len(piece)
}

// A class is a set of characters.
type class uint8

const (
	base64char     class = 1 << iota // RFC 4648, section 4, without padding
	token68                          // RFC 9110, section 11.2, without padding
	tchar                            // section 5.6.2
	unreserved                       // RFC 3986, section 2.3
	printable                        // all but control characters
	base64urlOrDot                   // what a JSON Web Token is of
)

// classes is a table, since a token has thousands of characters and comes with each request.
var classes = func() (t [256]class) {
	const alnum = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	for in, more := range map[class]string{base64char: "+/", base64urlOrDot: "-_.", token68: "-._~+/", tchar: "!#$%&'*+-.^_`|~", unreserved: "-._~"} {
		for _, c := range []byte(alnum + more) {
			t[c] |= in
		}
	}
	for c := range t {
		if c >= ' ' && c != 0x7f {
			t[c] |= printable
		}
	}
	return t
}()

// common returns the classes that all of text is in.
func common(text []byte) class {
	in := ^class(0)
	for _, c := range text {
		in &= classes[c]
	}
	return in
}

// every reports whether all of text is in a class.
func every(text []byte, in class) bool { return common(text)&in != 0 }

// equalFold compares with a lower-case ASCII word.
func equalFold(text []byte, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i, c := range text {
		if c|0x20 != lower[i] {
			return false
		}
	}
	return true
}
