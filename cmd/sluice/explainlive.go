package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// live is a gateway that runs, by the URL of its admin address.
type live struct{ url string }

// explainer returns what asks the gateway in the place of explainTarget. It resolves names itself, where a has
// a resolver: the gateway does not.
func (l live) explainer(a *aclTest) func(context.Context, string) (explained, error) {
	return func(ctx context.Context, arg string) (explained, error) {
		_, target := cutMethod(arg)
		t, addrs, err := parseTestTarget(target)
		if err != nil {
			return explained{}, err
		}
		q := url.Values{"target": {arg}}
		if a.from != "" {
			q.Set("from", a.from)
		}
		e, err := l.ask(ctx, q)
		if err != nil || a.resolver == nil || len(addrs) > 0 || t.Host.IsAddr() || e.Verdict == acl.Deny.String() {
			return e, err
		}
		asked := e.Request // which the addresses change nothing of
		if addrs, err = a.resolver.Lookup(ctx, t.Host.Name()); err != nil {
			q.Set("unresolved", err.Error())
			e, err = l.ask(ctx, q)
			e.Request = asked
			return e, err
		}
		var list []string
		for _, addr := range addrs {
			list = append(list, addr.String())
		}
		q.Set("target", t.String()+"="+strings.Join(list, ","))
		e, err = l.ask(ctx, q)
		e.Request = asked
		return e, err
	}
}

// explainTime is for how long a gateway is waited for.
const explainTime = 30 * time.Second

// maxExplained bounds what is read of an answer: twenty rules that came near, and addresses.
const maxExplained = 4 << 20

func (l live) ask(ctx context.Context, q url.Values) (e explained, err error) {
	base := l.url
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return e, fmt.Errorf("--admin: %q is no address; write it such as http://127.0.0.1:9090", l.url)
	}
	u = u.JoinPath("api", "explain")
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return e, fmt.Errorf("--admin: %w", err)
	}
	tr := &http.Transport{} // no proxy: the gateway may be the one that the environment names
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return e, fmt.Errorf("--admin: ask %s: %w; is it where the gateway has its admin port (--admin of sluice proxy)?", u.Host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxExplained))
	switch {
	case err != nil:
		return e, fmt.Errorf("--admin: ask %s: %w", u.Host, err)
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusMisdirectedRequest:
		return e, errors.New(strings.TrimSpace(string(body)))
	case resp.StatusCode != http.StatusOK:
		return e, fmt.Errorf("--admin: %s answers %s: is it the admin port of a sluice proxy that has GET /api/explain?", u.Host, resp.Status)
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return e, fmt.Errorf("--admin: %s answers what is none: %w", u.Host, err)
	}
	return e, nil
}

// asked answers GET /api/explain. One question is answered at a time, since each goes through all rules.
type asked struct {
	mu   sync.Mutex
	pods *pods // nil: there is no directory
}

// explain answers a question about gen, which c was made into: what is decided about the target, for the
// client from; unresolved is why its name has no address, where somebody has looked.
func (a *asked) explain(c *config.Proxy, gen *policy.Generation, q url.Values) (any, error) {
	method, target := cutMethod(q.Get("target"))
	t, addrs, err := parseTestTarget(target)
	if err != nil {
		return nil, err
	}
	who, err := parseAsker(q.Get("from"), c.Users)
	if err != nil {
		return nil, err
	}
	if a.pods != nil && who.addr.IsValid() {
		who.pod, _ = a.pods.Lookup(who.addr)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	tenant := gen.TenantOf(who.addr, who.pod, who.shown)
	w := whose{tenant.Rules, tenant.Name, tenant.Sources.String(), tenant.Parents, tenant.Inspect}
	ans := w.decide(t, addrs)
	if why := q.Get("unresolved"); why != "" {
		ans = ans.unresolved(errors.New(why))
	}
	e := w.explain(t, addrs, ans)
	return e, e.ask(w.inspect, method, target)
}
