package suggest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// maxLine bounds a line. Heads are bounded too, so that no real one is as long.
const maxLine = 4 << 20

// Read reads a log to its end and calls f for each request, in their order; f must not keep what it is
// given. Blank lines, and messages of sluice that stand between those of its access log, are left out. So
// is a last line without its end that cannot be read: somebody is writing it. Any other line that is of no
// format ends it with an error that has source and line.
func Read(r io.Reader, source string, f func(*Request)) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(in)
		if err != nil && err != io.EOF {
			return fmt.Errorf("%s:%d: %w", source, n, err)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			req, wrong := readRequest(text)
			switch {
			case wrong != nil && err == nil:
				return fmt.Errorf("%s:%d: %w", source, n, wrong)
			case wrong == nil && req != nil:
				f(req)
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readLine returns the next line with its end; io.EOF with one that has none.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, errors.New("the line is too long for an access log")
		case err != bufio.ErrBufferFull:
			return line, err
		}
	}
}

// readRequest reads a line of either format; nil is one that tells of no request.
func readRequest(line []byte) (*Request, error) {
	if line[0] == '{' {
		return readJSON(line)
	}
	return readSquid(string(line))
}

// jsonLine is what is read of a line of sluice proxy or sluice tcp.
type jsonLine struct {
	Time    string  `json:"time"`
	Tenant  string  `json:"tenant"`
	Method  string  `json:"method"`
	Target  *string `json:"target"`
	Verdict string  `json:"verdict"`
	Reason  string  `json:"reason"`
	Address string  `json:"address"`
	Error   string  `json:"error"`
	Details string  `json:"details"`
	Shadow  string  `json:"shadow"`
	Revoked string  `json:"revoked"`
	File    string  `json:"file"` // of the rule that has decided

	Listener    *string `json:"listener"` // sluice tcp
	Destination string  `json:"destination"`
	Refused     string  `json:"refused"`

	Level   string  `json:"level"` // a message
	Message *string `json:"msg"`
}

func readJSON(line []byte) (*Request, error) {
	var l jsonLine
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, fmt.Errorf("no line of an access log in JSON: %w", err)
	}
	r := &Request{Tenant: l.Tenant, Shadow: l.Shadow}
	r.Time, _ = time.Parse(time.RFC3339Nano, l.Time)
	if at, err := netip.ParseAddrPort(l.Address); err == nil {
		r.Addr = at.Addr().Unmap()
	}
	switch {
	case l.Target != nil:
		r.Target = readTarget(l.Method, *l.Target)
		l.judge(r)
	case l.Listener != nil:
		r.Target = readTarget("CONNECT", l.Destination)
		switch r.Why = l.Error; {
		case l.Revoked != "":
			r.Outcome, r.Why = Denied, "revoked: "+l.Revoked
		case !r.Addr.IsValid():
			r.Outcome = Failed
		}
	case l.Message != nil && l.Level != "":
		return nil, nil
	default:
		return nil, errors.New(`no line of an access log: it has neither "target" nor "listener"`)
	}
	return r, nil
}

// refusedLater is the error of what the rules allow and was refused behind them: by what a tunnel began
// with, mostly.
const refusedLater = "http_request_denied"

// judge says what became of a request to sluice proxy.
func (l *jsonLine) judge(r *Request) {
	r.Why = l.Error
	if l.Details != "" {
		r.Why = l.Details
	}
	switch {
	case l.Verdict == "deny" && strings.HasPrefix(l.Reason, "guard "):
		r.Outcome, r.Why = Guarded, l.Reason
	case l.Verdict == "deny":
		r.Outcome, r.Why = Denied, l.Reason
	case l.Revoked == "default" && l.File == "--learn": // the learning has ended: nobody has denied it
	case l.Revoked != "":
		r.Outcome, r.Why = Denied, "revoked: "+l.Revoked
	case l.Error == refusedLater:
		r.Outcome = Denied
	case l.Verdict == "none", l.Verdict == "allow" && !r.Addr.IsValid():
		r.Outcome = Failed
	}
}

// readSquid reads "time elapsed client result/status bytes method URL user hierarchy/address type".
func readSquid(line string) (*Request, error) {
	const form = "no line of an access log: it is neither JSON nor squid's native format (time elapsed client result/status bytes method URL …)"
	f := strings.Fields(line)
	if len(f) < 7 {
		return nil, errors.New(form)
	}
	at, err := strconv.ParseFloat(f[0], 64)
	result, code, ok := strings.Cut(f[3], "/")
	status, wrong := strconv.Atoi(code)
	if err != nil || !ok || wrong != nil || math.IsNaN(at) || math.Abs(at) > 1e11 {
		return nil, errors.New(form)
	}
	seconds, part := math.Modf(at)
	r := &Request{Time: time.Unix(int64(seconds), int64(math.Round(part*1000))*1e6).UTC(), Target: readTarget(f[5], f[6])}
	peer := ""
	if len(f) > 8 {
		peer = f[8]
	}
	how, addr, _ := strings.Cut(peer, "/")
	if strings.HasSuffix(how, "DIRECT") || strings.HasSuffix(how, "ORIGINAL_DST") || strings.HasSuffix(how, "PINNED") { // else it is a parent's
		if a, err := netip.ParseAddr(addr); err == nil && a.Zone() == "" {
			r.Addr = a.Unmap()
		}
	}
	switch served := status >= 200 && status < 400 || strings.Contains(result, "HIT"); {
	case strings.Contains(result, "DENIED") && status == 407:
		r.Outcome, r.Why = Failed, "asked who it is" // the client comes again and shows it
	case strings.Contains(result, "DENIED"):
		r.Outcome, r.Why = Denied, f[3]
	case f[5] == "CONNECT" && status >= 400, strings.HasSuffix(how, "NONE") && !served, how == "" && !served:
		r.Outcome, r.Why = Failed, f[3]
	}
	return r, nil
}

// schemePorts are the ports of what a client asks a proxy for.
var schemePorts = map[string]uint16{"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

// readTarget reads the target of a request; zero: no rule could be for it.
func readTarget(method, text string) acl.Target {
	if scheme, rest, ok := strings.Cut(text, "://"); ok && method != "CONNECT" {
		port := schemePorts[strings.ToLower(scheme)]
		if port == 0 {
			return acl.Target{}
		}
		if end := strings.IndexAny(rest, "/?#"); end >= 0 {
			rest = rest[:end]
		}
		t, err := acl.ParseTargetDefault(rest, port)
		if err != nil {
			return acl.Target{}
		}
		return t
	}
	t, err := acl.ParseTarget(text)
	if err != nil {
		return acl.Target{}
	}
	return t
}
