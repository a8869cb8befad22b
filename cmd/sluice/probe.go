package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/cli"
)

const (
	probeTimeout = 30 * time.Second // for each question, with what the gateway takes to connect
	openFor      = time.Second      // a port that leads nowhere is reset sooner
	longestLine  = 8 << 10
)

// probe is one call of "sluice probe".
type probe struct {
	proxy   string
	allowed []string
	denied  []string
	open    []string
}

func newProbe(s streams) *cobra.Command {
	var p probe
	cmd := &cobra.Command{
		Use:   "probe [--proxy HOST:PORT --allowed TARGET… --denied TARGET…] [--open HOST:PORT…]",
		Short: "Ask a running gateway as a client does, and compare",
		Long: `Ask a running gateway as a client does. TARGET is HOST:PORT: for each one the proxy is
asked for a tunnel there, which it must give (--allowed) or refuse with 403 (--denied).
--open is for the ports of "sluice tcp": one that leads somewhere stays open for a second.

A line for each; status 0: all is as it should be, 1: something is not, 2: the flags are
wrong. It is what "helm test" runs.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return cli.Wrong(err)
			}
			return p.run(cmd.Context(), s.out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.proxy, "proxy", "", "ask the proxy at this HOST:PORT")
	f.StringArrayVar(&p.allowed, "allowed", nil, "it must give a tunnel to this HOST:PORT; repeatable")
	f.StringArrayVar(&p.denied, "denied", nil, "it must refuse a tunnel to this HOST:PORT; repeatable")
	f.StringArrayVar(&p.open, "open", nil, "this HOST:PORT must lead somewhere; repeatable")
	return cmd
}

// check says all that is wrong with the flags.
func (p *probe) check() error {
	var problems []error
	asked := len(p.allowed) + len(p.denied)
	switch {
	case asked == 0 && len(p.open) == 0:
		problems = append(problems, errors.New("nothing to ask: give --allowed, --denied or --open"))
	case asked > 0 && p.proxy == "":
		problems = append(problems, errors.New("--proxy is missing: the HOST:PORT of the gateway that is asked for targets"))
	case asked == 0 && p.proxy != "":
		problems = append(problems, errors.New("--proxy is asked nothing: give --allowed or --denied"))
	}
	places := map[string][]string{"--allowed": p.allowed, "--denied": p.denied, "--open": p.open}
	if p.proxy != "" {
		places["--proxy"] = []string{p.proxy}
	}
	for _, flag := range []string{"--proxy", "--allowed", "--denied", "--open"} {
		for _, place := range places[flag] {
			if host, port, err := net.SplitHostPort(place); err != nil || host == "" || port == "" || strings.ContainsAny(place, " \r\n") {
				problems = append(problems, fmt.Errorf("%s: %q is no HOST:PORT", flag, place))
			}
		}
	}
	return errors.Join(problems...)
}

// run asks, one after the other, and writes a line for each.
func (p *probe) run(ctx context.Context, out io.Writer) error {
	failed := 0
	tell := func(what, target string, err error) {
		if err != nil {
			failed++
			fmt.Fprintf(out, "FAILED\t%s\t%s\t%v\n", what, target, err)
			return
		}
		fmt.Fprintf(out, "ok\t%s\t%s\n", what, target)
	}
	for _, target := range p.allowed {
		tell("allowed", target, p.answer(ctx, target, "200"))
	}
	for _, target := range p.denied {
		tell("denied", target, p.answer(ctx, target, "403"))
	}
	for _, place := range p.open {
		tell("open", place, staysOpen(ctx, place))
	}
	if failed > 0 {
		return &cli.Exit{Status: cli.StatusFailed, Cause: fmt.Errorf("sluice probe: %d of %d are not as they should be", failed, len(p.allowed)+len(p.denied)+len(p.open))}
	}
	return nil
}

// answer asks the proxy for a tunnel to target, and wants an answer of that status.
func (p *probe) answer(ctx context.Context, target, status string) error {
	c, err := dialProbe(ctx, p.proxy)
	if err != nil {
		return fmt.Errorf("the proxy does not answer: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return fmt.Errorf("the proxy does not listen: %w", err)
	}
	line, err := bufio.NewReader(io.LimitReader(c, longestLine)).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the proxy does not answer: %w", err)
	}
	line = strings.TrimSpace(line)
	if fields := strings.Fields(line); len(fields) < 2 || fields[1] != status {
		return fmt.Errorf("the answer is %q, and %s was expected", line, status)
	}
	return nil
}

// staysOpen connects and waits a moment: who has nowhere to lead to ends the connection.
func staysOpen(ctx context.Context, place string) error {
	c, err := dialProbe(ctx, place)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(openFor)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("the connection was ended: %w", err)
}

func dialProbe(ctx context.Context, place string) (net.Conn, error) {
	d := net.Dialer{Timeout: probeTimeout}
	return d.DialContext(ctx, "tcp", place)
}
