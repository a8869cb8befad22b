//go:build linux

// Command bench measures Sluice and other proxies side by side: processor time for
// a fixed amount of work, rates, latencies, memory. The proxy under test has one
// processor for itself; the load generator and the origin, which are this program
// again, have another. Repetitions of all proxies take turns, so that what the
// machine does otherwise falls on all.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/names"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/secure"
)

func main() {
	// Children end when the thread that started them does, so it must be one that stays.
	runtime.LockOSThread()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if err := dispatch(args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func dispatch(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "exec":
			return proc.ExecArgs(args[1:])
		case "origin":
			return origin.Serve()
		case "load":
			return load.Serve(os.Stdin, os.Stdout)
		case "directory":
			return serveDirectory(args[1], os.Stdin, os.Stdout)
		case "logins":
			return logIn(args[1], args[2], os.Stdin, os.Stdout)
		case "tls-origin":
			return secure.ServeOrigin(args[1], os.Stdin, os.Stdout)
		case "tls-load":
			return secure.Serve(os.Stdin, os.Stdout)
		case "dns":
			return names.Serve(args[1], os.Stdin, os.Stdout)
		}
	}
	return measureAll(args)
}

// options are the flags.
type options struct {
	rows    []string
	peers   []string
	sluices []string
	reps    int
	scale   float64
	bin     string
	out     string
	policy  string
	profile string
	quick   bool
	nice    int
	soak    time.Duration
}

func parse(args []string) (o options, err error) {
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.StringSliceVar(&o.rows, "rows", nil, "measure these rows only")
	f.StringSliceVar(&o.peers, "peers", nil, "measure these proxies only, or none; Sluice is always there")
	f.StringArrayVar(&o.sluices, "sluice", nil, "[NAME=]PATH of a build of Sluice; several to compare them")
	f.IntVar(&o.reps, "reps", 5, "repetitions")
	f.Float64Var(&o.scale, "scale", 1, "do so much of the work of each cell")
	f.StringVar(&o.profile, "profile", "", "look into Sluice at the rows' work, and leave profiles in this folder")
	f.IntVar(&o.nice, "nice", 0, "scheduling priority of all that is measured; below 0, as root, it goes before what else the machine does")
	f.BoolVar(&o.quick, "quick", false, "try everything with little work; the figures tell little")
	f.DurationVar(&o.soak, "soak", 10*time.Minute, "how long row 12 takes")
	f.StringVar(&o.out, "out", "", "put the tables and the plot into this document")
	f.StringVar(&o.policy, "policy", "", "put what row 17 says into this document, docs/policy.md")
	f.StringVar(&o.bin, "bin", "bin", "folder of built programs")
	return o, f.Parse(args)
}

// measureAll measures what the flags say, and reports it.
func measureAll(args []string) error {
	// One dash will do, as for other Go programs.
	for i, a := range args {
		if len(a) > 2 && a[0] == '-' && unicode.IsLetter(rune(a[1])) {
			args[i] = "-" + a
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if code, ran := proc.Isolate(); ran {
		os.Exit(code)
	}
	own, err := proc.Isolated()
	if err != nil {
		return err
	}
	alone, err := proc.Alone(10 * time.Minute)
	if err != nil {
		return err
	}
	defer alone()
	b, err := newBench()
	if err != nil {
		return err
	}
	defer b.close()
	b.adjust(o, own)
	if err := b.choose(o); err != nil {
		return err
	}
	b.endsWhenInterrupted()
	if o.profile != "" {
		return b.profileRows(o.rows, o.profile)
	}
	return b.report(o)
}

// adjust sets how much is measured, and in which circumstances.
func (b *bench) adjust(o options, isolated bool) {
	if !isolated {
		b.notes = append(b.notes, "Not in a network namespace of its own: other traffic on the loopback network disturbs.")
	}
	b.isolated = isolated
	b.reps, b.scale = o.reps, o.scale
	b.soak, b.nice = o.soak, o.nice
	if b.nice < 0 && os.Getuid() != 0 {
		b.nice = 0
		b.notes = append(b.notes, "Not root: what else the machine does goes on as before, and disturbs.")
	}
	if b.quick = o.quick; b.quick {
		b.reps, b.scale, b.starts, b.idle, b.rest = min(b.reps, 2), b.scale/10, 3, 2000, time.Second
		b.soak = min(b.soak, 20*time.Second)
	}
}

// endsWhenInterrupted ends all that was started when this process is told to end.
func (b *bench) endsWhenInterrupted() {
	interrupted := make(chan os.Signal, 1)
	// SIGPIPE: whoever has read the output is gone ("make bench ROW=1 | head").
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	go func() {
		<-interrupted
		os.Stdout.Close() // what fails from here on is of no interest
		b.close()
		os.Exit(130)
	}()
}

// report measures the rows, prints what was found, and puts it into the documents.
func (b *bench) report(o options) error {
	began := time.Now()
	if err := b.runRows(o.rows); err != nil {
		return err
	}
	r := b.summary(began)
	for _, n := range r.Notes {
		fmt.Fprintln(b.out, n)
	}
	fmt.Fprint(b.out, r.GoalsText())
	fmt.Fprintf(b.out, "all in %v\n", r.Took.Round(time.Second))
	if o.policy != "" {
		if err := publishShadow(r, o.policy); err != nil {
			return err
		}
	}
	if o.out == "" {
		return nil
	}
	return publish(r, o.out)
}

// choose finds the proxies.
func (b *bench) choose(o options) error {
	if len(o.sluices) == 0 {
		o.sluices = []string{filepath.Join(o.bin, "sluice")}
	}
	for _, s := range o.sluices {
		name, path, ok := strings.Cut(s, "=")
		if !ok {
			name, path = "sluice", s
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		b.sluices = append(b.sluices, peers.Sluice(name, path))
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	for _, p := range b.sluices {
		if err := p.Find(); err != nil {
			return err
		}
	}
	all := peers.All(bin)
	for _, name := range o.peers {
		if name != "none" && !slices.ContainsFunc(all, func(p *peers.Peer) bool { return p.Name == name }) {
			return fmt.Errorf("there is no peer %q", name)
		}
	}
	for _, p := range all {
		if len(o.peers) > 0 && !slices.Contains(o.peers, p.Name) {
			continue
		}
		if err := p.Find(); err != nil {
			b.notes = append(b.notes, "Missing: "+err.Error())
			continue
		}
		b.others = append(b.others, p)
	}
	return nil
}
