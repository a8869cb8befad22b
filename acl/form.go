package acl

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

type formKind uint8

const (
	formAddr formKind = iota + 1
	formName
	formDomain
	formGlob
	formStar
)

// A form is one rule, read. Two rules of equal kind, name and prefix have the
// same form.
type form struct {
	kind   formKind
	deny   bool
	masked bool         // host bits were set, and are cleared in prefix
	prefix netip.Prefix // formAddr; an address is a prefix of its whole length
	name   string       // formName; formDomain without its `*.`; formGlob whole
	ports  []portRange  // sorted, apart from each other; nil is any port
}

// A portRange is the ports from..to, both included.
type portRange struct{ from, to uint16 }

var anyPort = []portRange{{0, 65535}}

// A formReader reads rules; it keeps a buffer between them.
type formReader struct {
	buf []portRange
}

// read reads one rule, which is not empty, without comment and surrounding
// white space. msg is "" on success. The ports are valid until the next call.
func (r *formReader) read(s string) (f form, msg string) {
	body := s
	if s[0] == '!' {
		f.deny = true
		body = strings.TrimLeft(s[1:], blanks)
		if body == "" {
			return form{}, msgLoneBang
		}
	}
	host, ports, hasPorts, msg := splitRule(body)
	if msg == "" {
		msg = f.readHost(host)
	}
	if msg == "" && hasPorts {
		f.ports, msg = r.readPorts(ports)
	}
	if msg == "" && f.kind == formStar && f.deny {
		msg = msgDenyStar
	}
	if msg != "" {
		return form{}, mend(body, msg)
	}
	return f, ""
}

// splitRule parts a rule at its port set. A bracketed host keeps its brackets.
func splitRule(s string) (host, ports string, hasPorts bool, msg string) {
	if s[0] == '[' {
		end := strings.IndexByte(s, ']') + 1
		switch {
		case end == 0:
			return "", "", false, msgOpenBracket
		case end == len(s):
			return s, "", false, ""
		case s[end] == '/':
			return "", "", false, msgSlashOutside
		case s[end] != ':':
			return "", "", false, msgAfterBracket
		}
		return s[:end], s[end+1:], true, ""
	}
	colon := strings.IndexByte(s, ':')
	if colon < 0 || strings.IndexByte(s[colon+1:], ':') >= 0 {
		return s, "", false, "" // no port set, or IPv6
	}
	return s[:colon], s[colon+1:], true, ""
}

func (f *form) readHost(s string) (msg string) {
	switch {
	case s == "*":
		f.kind = formStar
		return ""
	case s == "":
		return msgEmptyHost
	case s[0] == '[':
		if strings.IndexByte(s, ':') < 0 {
			return msgBrackets
		}
		return f.readIPv6(s[1 : len(s)-1])
	case strings.IndexByte(s, ':') >= 0:
		msg = f.readIPv6(s)
		if msg == msgNotIPv6 || msg == msgSlashIPv6 {
			if mayEndInPort(s) {
				return msgMaybePort
			}
		}
		return msg
	case strings.IndexByte(s, '/') >= 0:
		return f.readPrefix(s, msgSlashIPv4)
	}
	return f.readName(s)
}

// mayEndInPort reports whether s would be IPv6 without its last colon and what
// follows.
func mayEndInPort(s string) bool {
	s = s[:strings.LastIndexByte(s, ':')]
	var f form
	return strings.IndexByte(s, ':') >= 0 && f.readIPv6(s) == ""
}

func (f *form) readIPv6(s string) (msg string) {
	if strings.IndexByte(s, '/') >= 0 {
		return f.readPrefix(s, msgSlashIPv6)
	}
	addr, msg := parseIPv6(s)
	f.setAddr(addr)
	return msg
}

func (f *form) setAddr(a netip.Addr) {
	f.kind, f.prefix = formAddr, netip.PrefixFrom(a, a.BitLen())
}

func (f *form) readPrefix(s, wrong string) (msg string) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if strings.IndexByte(s, '%') >= 0 {
			return msgZone
		}
		return wrong
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return msgSlashMapped
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	f.kind, f.prefix = formAddr, p.Masked()
	f.masked = f.prefix.Addr() != p.Addr()
	return ""
}

// readName reads a name, a dotted quad, a domain or a glob.
func (f *form) readName(s string) (msg string) {
	stars := strings.IndexByte(s, '*') >= 0
	rest, leading := strings.CutPrefix(s, "*.")
	if leading && strings.IndexByte(rest, '*') < 0 {
		return f.readDomain(rest)
	}
	if strings.Contains(s, "**") {
		return msgDoubleStar
	}
	ascii := isASCII(s)
	if !ascii {
		if s, msg = toASCII(s, stars); msg != "" {
			return msg
		}
	}
	if stars && strings.Trim(s, "0123456789.*") == "" && strings.Trim(s, ".*") != "" {
		return msgStarAddress
	}
	name, addr, msg := normalise(s, stars)
	switch {
	case msg == msgNotIPv4 && stars:
		return msgDomainNumber
	case msg != "":
		return msg
	case addr.IsValid() && !ascii:
		return msgUnicodeAddr
	case addr.IsValid():
		f.setAddr(addr)
	case stars:
		f.kind, f.name = formGlob, name
	default:
		f.kind, f.name = formName, name
	}
	return ""
}

func (f *form) readDomain(s string) (msg string) {
	if !isASCII(s) {
		if s, msg = toASCII(s, false); msg != "" {
			return msg
		}
	}
	name, addr, msg := normalise(s, false)
	switch {
	case msg == msgNotIPv4 || addr.IsValid():
		return msgDomainNumber
	case msg == "":
		f.kind, f.name = formDomain, name
	}
	return msg
}

// readPorts reads `443`, `8000-8999` or `80,443,8000-8999` and merges it.
func (r *formReader) readPorts(s string) ([]portRange, string) {
	r.buf = r.buf[:0]
	for s != "" || len(r.buf) == 0 {
		part, rest, more := strings.Cut(s, ",")
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		if from == "" || to == "" || more && rest == "" {
			return nil, msgEmptyPorts
		}
		a, msg := parsePort(from)
		b, msg2 := parsePort(to)
		switch {
		case msg == msgBadPort || msg2 == msgBadPort:
			return nil, msgPortRange
		case msg != "":
			return nil, msg
		case msg2 != "":
			return nil, msg2
		case b < a:
			return nil, msgPortOrder
		}
		r.buf = append(r.buf, portRange{a, b})
		s = rest
	}
	return mergePorts(r.buf), ""
}

// mergePorts sorts ranges and joins those that touch. Every port there is
// becomes nil, any port.
func mergePorts(rs []portRange) []portRange {
	if len(rs) > 1 {
		slices.SortFunc(rs, func(a, b portRange) int { return int(a.from) - int(b.from) })
	}
	out := rs[:1]
	for _, r := range rs[1:] {
		last := &out[len(out)-1]
		if int(r.from) > int(last.to)+1 {
			out = append(out, r)
		} else {
			last.to = max(last.to, r.to)
		}
	}
	if out[0] == (portRange{1, 65535}) {
		return nil
	}
	return out
}

// appendTo appends the rule in its canonical spelling.
func (f *form) appendTo(b []byte) []byte {
	if f.deny {
		b = append(b, '!')
	}
	brackets := f.kind == formAddr && f.ports != nil && f.prefix.Addr().Is6()
	switch {
	case brackets:
		b = append(b, '[')
		fallthrough
	case f.kind == formAddr:
		if f.prefix.IsSingleIP() {
			b = f.prefix.Addr().AppendTo(b)
		} else {
			b = f.prefix.AppendTo(b)
		}
		if brackets {
			b = append(b, ']')
		}
	case f.kind == formStar:
		b = append(b, '*')
	case f.kind == formDomain:
		b = append(b, "*."...)
		b = append(b, f.name...)
	default:
		b = append(b, f.name...)
	}
	for i, r := range f.ports {
		b = append(b, ":,"[min(i, 1)])
		b = strconv.AppendUint(b, uint64(r.from), 10)
		if r.to != r.from {
			b = append(b, '-')
			b = strconv.AppendUint(b, uint64(r.to), 10)
		}
	}
	return b
}
