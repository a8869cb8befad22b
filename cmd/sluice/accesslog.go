package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/metrics"
)

// No log holds the program up, not its start, a reload or its end: all lines go by
// linelog, those of standard error too.

// flushLimit is how long what a log holds may take to be written at the end.
const flushLimit = time.Second

// messagesRoom is how much of what goes to standard error may wait.
const messagesRoom = 1 << 20

// openAccessLog opens the log at path, "-" for standard output; "": none.
func openAccessLog(path string, m *metrics.Metrics, log *slog.Logger, s streams) (*linelog.Log, error) {
	o := linelog.Options{
		Lost:   func(lines int) { m.LogDropped.Add(float64(lines)) },
		Failed: func(err error) { log.Error("write the access log: " + err.Error()) },
		Restored: func(lost int) {
			log.Warn("the access log is written again", "lost_lines", lost)
		},
	}
	switch path {
	case "":
		return nil, nil
	case "-":
		return linelog.New(s.out, o), nil
	}
	l, err := linelog.Open(path, o)
	if err != nil {
		return nil, fmt.Errorf("sluice: open the access log: %w", err)
	}
	return l, nil
}

// closeAccessLog ends the log, and says what it could not write.
func closeAccessLog(l *linelog.Log, log *slog.Logger) {
	if lost := l.Close(flushLimit); lost > 0 {
		log.Error("the end of the access log was not taken in time", "lost_lines", lost)
	}
}

// messages is what a running command says on standard error: its log, and words to
// who started it.
type messages struct {
	*linelog.Log
	logger *slog.Logger
}

func openMessages(level slog.Level, m *metrics.Metrics, s streams) *messages {
	said := &messages{}
	said.Log = linelog.New(s.err, linelog.Options{
		Lost: func(lines int) { m.MessagesDropped.Add(float64(lines)) },
		Restored: func(lost int) { // after a write, so there is a logger by then
			said.logger.Warn("standard error is written again", "lost_lines", lost)
		},
		Room:   messagesRoom,
		Prompt: true,
	})
	said.logger = slog.New(slog.NewJSONHandler(said.Log, &slog.HandlerOptions{Level: level}))
	return said
}

// last says err, if there is one, and ends what is said. What it returns has nothing
// left to say: main would wait for standard error.
func (m *messages) last(err error) error {
	if err != nil {
		fmt.Fprintln(m.Log, err)
		err = &cli.Exit{Status: cli.Status(err)}
	}
	m.Close(flushLimit)
	return err
}
