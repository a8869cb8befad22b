package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/acl/suggest"
	"github.com/sluiceproxy/sluice/internal/cli"
)

// auditFlags are what the commands that reason about rules have in common.
type auditFlags struct {
	guard string
	own   []string
	limit time.Duration
	json  bool
	now   string
}

func (a *auditFlags) add(f *pflag.FlagSet) {
	f.StringVar(&a.guard, "guard", "default", "default, strict or off")
	f.StringSliceVar(&a.own, "own", nil, "addresses of the gateway (default: any address may be one)")
	f.DurationVar(&a.limit, "limit", 10*time.Second, "how long it may take")
	f.StringVar(&a.now, "at", "", "the day that rules are looked at, such as 2027-03-01 (default: today)")
	f.BoolVar(&a.json, "json", false, "JSON, as docs/schema has it")
}

// time is the moment that rules are looked at.
func (a *auditFlags) time() (time.Time, error) {
	if a.now == "" {
		return time.Now(), nil
	}
	t, err := time.Parse(time.DateOnly, a.now)
	if err != nil {
		return t, fmt.Errorf("--at: %q is no day; write one such as 2027-03-01", a.now)
	}
	return t, nil
}

// put gives policies the guard, and leaves out what has expired.
func (a *auditFlags) put(ps ...**acl.Policy) (audit.Options, error) {
	o := audit.Options{Limit: a.limit, Own: len(a.own) > 0}
	mode, err := acl.ParseGuardMode(a.guard)
	if err != nil {
		return o, fmt.Errorf("--guard: %w", err)
	}
	if a.limit <= 0 {
		return o, errors.New("--limit: write how long it may take, such as 10s")
	}
	now, err := a.time()
	if err != nil {
		return o, err
	}
	own, err := parseAddrs("--own", a.own)
	for _, p := range ps {
		*p = (*p).At(now).WithGuard(acl.Guard{Mode: mode, Own: own})
	}
	return o, err
}

func parseAddrs(flag string, list []string) (out []netip.Addr, err error) {
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("%s: %q is no IP address", flag, s)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

// aclDiff is one call of "sluice acl diff".
type aclDiff struct {
	auditFlags
	oldText              string
	oldGiven             bool
	implies              bool
	opened, closed       bool
	configs, environment bool
	log                  string
	oldPolicy, newPolicy *acl.Policy
	keepOld, keepNew     bool // expired rules of the one, or the other, stay in force
}

func newACLDiff(environ []string, s streams) *cobra.Command {
	var a aclDiff
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say exactly what a change of rules opens and closes",
		Long: `Say what two lists of rules decide differently: every region of names, addresses and
ports, with what decided before and decides now, and one target that shows it, which
"sluice acl test" takes. OLD and NEW are files, or - for standard input:

  git show HEAD:rules.txt | sluice acl diff - rules.txt
  sluice acl diff --old-text "$(git show HEAD:rules.txt)" rules.txt

With --configs OLD and NEW are configurations of "sluice proxy", read alone: what the environment of this command
says has no part in it, unless --environment asks for it. The rules of each tenant are compared, and what else requests are judged by is listed:
clients, source addresses, request rules.

Rules expire: both lists are compared as they are today, and as they will be after each expires= day to come.
Where both allow, what tunnels have to carry (protocol=) is compared the same way.

Status 0: they decide alike, and go on to (with --implies: NEW allows nothing that OLD denies, on no day, and
lets nothing through a tunnel that OLD ends); 1: they do not; 2: wrong rules, or the question was too large
for --limit.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := guardTwice(cmd, "configs"); err != nil {
				return err
			}
			if a.environment && !a.configs {
				return cli.Wrong(errors.New("--environment is about configurations: write --configs too"))
			}
			if !a.configs {
				return a.run(args, s)
			}
			err := a.runConfigs(args, environ, s)
			if exit := (*cli.Exit)(nil); err != nil && !errors.As(err, &exit) {
				err = cli.Wrong(err)
			}
			return err
		},
	}
	f := cmd.Flags()
	a.add(f)
	f.BoolVar(&a.configs, "configs", false, "OLD and NEW are configuration files of sluice proxy")
	f.BoolVar(&a.environment, "environment", false, "with --configs: read both as sluice proxy would in this environment, whose variables win")
	f.StringVar(&a.oldText, "old-text", "", "the old rules themselves, in the place of OLD")
	f.BoolVar(&a.implies, "implies", false, "status 0 when NEW allows nothing that OLD denies")
	f.BoolVar(&a.opened, "only-opened", false, "show what NEW allows and OLD denied only")
	f.BoolVar(&a.closed, "only-closed", false, "show what NEW denies and OLD allowed only")
	f.StringVar(&a.log, "log", "", "access log, as acl suggest takes it: show which of its requests would be decided differently, with counts")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { a.oldGiven = cmd.Flags().Changed("old-text") }
	return cmd
}

var errBothStdin = errors.New("OLD and NEW are both standard input; name a file for one of them")

func (a *aclDiff) read(args []string, s streams) (err error) {
	switch {
	case a.opened && a.closed:
		return errors.New("--only-opened and --only-closed are both given; keep one of them")
	case a.oldGiven && len(args) == 2:
		return errors.New("--old-text and OLD are both given; keep one of them")
	case !a.oldGiven && len(args) == 1:
		return errors.New("name two files of rules, OLD and NEW; - is standard input")
	case len(args) == 2 && args[0] == "-" && args[1] == "-":
		return errBothStdin
	case a.log == "-" && slices.Contains(args, "-"):
		return errors.New("--log and rules are both standard input; name a file for one of them")
	}
	var problems []error
	if a.oldGiven {
		a.oldPolicy, err = acl.ParseNamed("--old-text", a.oldText)
	} else {
		a.oldPolicy, err = readPolicy(args[:1], nil, s)
	}
	problems = append(problems, err)
	a.newPolicy, err = readPolicy(args[len(args)-1:], nil, s)
	return errors.Join(append(problems, err)...)
}

func (a *aclDiff) run(args []string, s streams) error {
	if err := a.read(args, s); err != nil {
		return cli.Wrong(err)
	}
	o, err := a.put(&a.oldPolicy, &a.newPolicy)
	if err != nil {
		return cli.Wrong(err)
	}
	at, err := a.time()
	if err != nil {
		return cli.Wrong(err)
	}
	out := a.compare(a.oldPolicy, a.newPolicy, at, o)
	if a.log != "" {
		if out.Requests, err = a.replay(s); err != nil {
			return cli.Wrong(err)
		}
	}
	if a.json {
		if err := printJSON(s, out); err != nil {
			return err
		}
	} else {
		out.print(s)
	}
	return a.status(out.Complete, out.Implies, out.Equivalent && len(out.Other) == 0)
}

// compare says what two policies decide differently, from a moment on.
func (a *aclDiff) compare(old, now *acl.Policy, at time.Time, o audit.Options) diffOutput {
	out := diffOutput{Equivalent: true, Implies: true, Complete: true, Changes: []diffChange{}}
	said := map[int]bool{} // rules of the new list of which it is said what tunnels have to carry
	for _, s := range audit.Course(old, now, audit.CourseOptions{Options: o, At: at, KeepOld: a.keepOld, KeepNew: a.keepNew}) {
		from := ""
		if !s.From.IsZero() {
			from = s.From.Format(time.DateOnly)
		}
		if why := cmp.Or(s.Diff.Why, s.Protocols.Why); why != "" {
			out.Complete, out.Equivalent, out.Implies, out.Why = false, false, false, why
			if from != "" {
				out.Why = "of the time from " + from + " on: " + why
			}
		}
		for i := range s.Diff.Changes {
			c := &s.Diff.Changes[i]
			if out.Equivalent = false; c.Opened() {
				out.Opened++
				out.Implies = false
			} else {
				out.Closed++
			}
			if a.shows(c.Opened()) {
				out.Changes = append(out.Changes, changeOf(c, from, old, now))
			}
		}
		for i := range s.Protocols.Changes {
			c := &s.Protocols.Changes[i]
			said[c.New.Rule] = true
			out.Equivalent, out.Implies = false, out.Implies && !c.Loosened()
			if a.shows(c.Loosened()) {
				out.Protocols = append(out.Protocols, protocolChangeOf(c, from, old, now))
			}
		}
	}
	out.Other = otherChanges(old, now, said)
	return out
}

// shows reports whether what opens, or closes, is asked for.
func (a *aclDiff) shows(opens bool) bool { return !(a.opened && !opens || a.closed && opens) }

// status is how the command ends: alike says that nothing at all is different.
func (a *aclDiff) status(complete, implies, alike bool) error {
	switch {
	case !complete:
		return &cli.Exit{Status: cli.StatusWrong}
	case a.implies && !implies, !a.implies && !alike:
		return &cli.Exit{Status: cli.StatusFailed}
	}
	return nil
}

// otherChanges are differences between the lines of two lists that no target may show: days, protocols but of
// rules of which that is said already, and what is lost.
func otherChanges(old, now *acl.Policy, said map[int]bool) (out []string) {
	was := map[string][]acl.Rule{}
	for r := range old.Rules() {
		was[r.Canonical()] = append(was[r.Canonical()], r)
	}
	for r := range now.Rules() {
		same := was[r.Canonical()]
		if len(same) == 0 {
			continue
		}
		before := same[0]
		was[r.Canonical()] = same[1:]
		if before.Protocol != r.Protocol && !said[r.Pos] {
			out = append(out, fmt.Sprintf("line %d %s: protocol %q instead of %q", r.Line, r.Text, r.Protocol, before.Protocol))
		}
		if !before.Expires.Equal(r.Expires) {
			out = append(out, fmt.Sprintf("line %d %s: expires %s instead of %s", r.Line, r.Text, dayOf(r.Expires), dayOf(before.Expires)))
		}
	}
	return append(out, lostLines(old, now)...)
}

// lostLines are the assertions of one list that another has not, and that it is whole.
func lostLines(old, now *acl.Policy) (out []string) {
	have := map[string]int{}
	for _, a := range now.Assertions() {
		have[a.Text]++
	}
	for _, a := range old.Assertions() {
		if have[a.Text]--; have[a.Text] < 0 {
			out = append(out, fmt.Sprintf("%s, in line %d before, is lost", a.Text, a.Line))
		}
	}
	if old.Whole() && !now.Whole() {
		out = append(out, "#@ end, the last line before, is lost")
	}
	return out
}

// dayOf is the last day of a rule.
func dayOf(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.DateOnly)
}

// admits orders decisions by how much they let through: nothing, what the address says, all.
func admits(d acl.Decision) int {
	return map[acl.Verdict]int{acl.Deny: 0, acl.NeedAddr: 1, acl.Allow: 2}[d.Verdict]
}

// loggedChange is recorded requests that would be decided differently.
type loggedChange struct {
	Target string  `json:"target"`
	Count  int     `json:"count"`
	Old    decided `json:"old"`
	New    decided `json:"new"`
}

// replay decides what an access log holds once more.
func (a *aclDiff) replay(s streams) ([]loggedChange, error) {
	var out []loggedChange
	index := map[string]int{}
	err := readLog(a.log, s, func(r *suggest.Request) {
		if r.Target == (acl.Target{}) {
			return // a request that was none
		}
		old, now, name := a.oldPolicy.DecideHost(r.Target), a.newPolicy.DecideHost(r.Target), r.Target.String()
		if r.Addr.IsValid() {
			old, now = a.oldPolicy.DecideAddr(r.Target, r.Addr), a.newPolicy.DecideAddr(r.Target, r.Addr)
			if r.Target.Host.IsName() {
				name += "=" + r.Addr.String()
			}
		}
		if old.Verdict == now.Verdict || !a.shows(admits(now) > admits(old)) {
			return
		}
		i, ok := index[name]
		if !ok {
			i = len(out)
			index[name] = i
			out = append(out, loggedChange{Target: name, Old: decidedBy(old, a.oldPolicy), New: decidedBy(now, a.newPolicy)})
		}
		out[i].Count++
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(x, y loggedChange) int { return y.Count - x.Count })
	return out, nil
}
