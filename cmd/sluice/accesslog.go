package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy"
)

// accessLog is the access log with the file behind it. A nil one is no log.
type accessLog struct {
	*proxy.AccessLog
	path string
	file io.Closer // nil: standard output, which is not ours to close
}

// openAccessLog opens the log at path, "-" for standard output; "": none. format
// may be nil for a log that is only appended to.
func openAccessLog(path string, format proxy.Format, m *metrics.Metrics, log *slog.Logger, s streams) (*accessLog, error) {
	if path == "" {
		return nil, nil
	}
	a := &accessLog{path: path}
	out := s.out
	if a.path != "-" {
		f, err := openAppend(a.path)
		if err != nil {
			return nil, err
		}
		out, a.file = f, f
	}
	a.AccessLog = proxy.NewAccessLog(out, format, m.LogDropped.Inc,
		func(err error) { log.Error(err.Error()) })
	return a, nil
}

func openAppend(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("sluice: open the access log: %w", err)
	}
	return f, nil
}

// reopen makes the file anew, as logrotate and its like expect after SIGHUP. The
// old one stays when that fails.
func (a *accessLog) reopen(log *slog.Logger) {
	if a == nil || a.file == nil {
		return
	}
	f, err := openAppend(a.path)
	if err != nil {
		log.Error(err.Error())
		return
	}
	a.SetOutput(f)
	a.file.Close()
	a.file = f
}

// Close writes what is buffered and closes the file.
func (a *accessLog) Close() {
	a.AccessLog.Close()
	if a.file != nil {
		a.file.Close()
	}
}
