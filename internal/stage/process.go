package stage

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/internal/child"
)

// childGrace is how long a process may take to end in good order: longer than its handlers may (worker.DefaultDrainTimeout).
const childGrace = 45 * time.Second

// readyLimit is how long a process may take to begin.
const readyLimit = 30 * time.Second

// Process is a child process: a command of evdemo, or a part of the scenario.
type Process struct {
	*child.Process
	Name string
	url  string // that it serves; valid once it is ready
	told atomic.Bool
}

// Kill ends the process as a crash would. It is an error where it has ended before, by itself.
func (p *Process) Kill() error {
	p.told.Store(true)
	if !p.Process.Kill() {
		return fmt.Errorf("%s had ended by itself when it was to be killed: %s", p.Name, p.Said())
	}
	return nil
}

// terminate ends the process in good order, or with a kill after a grace, and tells whether it was in time.
func (p *Process) terminate(grace time.Duration) (inTime bool) {
	p.told.Store(true)
	enough := make(chan struct{})
	timer := time.AfterFunc(grace, func() { close(enough) })
	defer timer.Stop()
	return p.Terminate(enough)
}

// watch ends the play where a process fails that nobody has told to end: what comes of it then says nothing.
func (s *Stage) watch(p *Process) {
	<-p.Exited()
	if err := p.Err(); err != nil && !p.told.Load() {
		s.fail(fmt.Errorf("%s has ended, and not by the demo: %w: %s", p.Name, err, p.Said()))
	}
}

// Start starts a command of evdemo that goes on until it is ended, and waits until it works. Output gets each line that it
// prints; nil: nobody.
func (s *Stage) Start(ctx context.Context, name string, output func(line []byte), args ...string) (*Process, error) {
	p, err := s.start(ctx, name, output, args)
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, p)
	timer := time.NewTimer(readyLimit)
	defer timer.Stop()
	select {
	case <-p.Ready():
		go s.watch(p) // it ends with the process
		return p, nil
	case <-p.Exited():
		return nil, fmt.Errorf("%s %w: %w: %s", name, child.ErrEnded, p.Err(), p.Said())
	case <-timer.C:
		return nil, fmt.Errorf("%s was not ready within %v: %s", name, readyLimit, p.Said())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Do runs a command of evdemo to its end, and gives what it prints. An exit code other than 0 is an error that says what the
// command said. Several goroutines may call it at once.
func (s *Stage) Do(ctx context.Context, args ...string) (output []byte, err error) {
	var out bytes.Buffer
	p, err := s.start(ctx, args[0], func(line []byte) { out.Write(line); out.WriteByte('\n') }, args)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.Exited():
	case <-ctx.Done():
		_ = p.Kill() // or it has just come to its end
		return nil, context.Cause(ctx)
	}
	if p.Err() != nil {
		return out.Bytes(), fmt.Errorf("evdemo %s: %w: %s", args[0], p.Err(), p.Said())
	}
	return out.Bytes(), nil
}

func (s *Stage) start(ctx context.Context, name string, output func(line []byte), args []string) (*Process, error) {
	if output == nil {
		output = func([]byte) {}
	}
	p := &Process{Name: name}
	if err := s.needGroup(ctx); err != nil {
		return nil, err
	}
	var err error
	p.Process, err = s.group.Start(ctx, child.Config{
		Binary: s.run.Executable, Args: append(args, "--log-format", "json"), Environment: s.environment(), Output: output,
		Ready: []string{"consuming", "serving", "the shop is open", "relay is the active one", "ready"},
		Opened: func(line []byte) {
			var entry struct {
				URL string `json:"url"`
			}
			_ = json.Unmarshal(line, &entry) // which it is
			p.url = entry.URL
		},
		Said: func(line string) {
			s.run.Logger.Warn("child says", slog.String("child", name), slog.String("line", line))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// needGroup makes the group of the processes, with the first one.
func (s *Stage) needGroup(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.group == nil {
		s.group, err = child.NewGroup(ctx)
	}
	return err
}

// environment leads a process to the broker, or tells the parts of the shop that there is none.
func (s *Stage) environment() []string {
	environment := s.run.Environment(strings.Join(s.urls, ","))
	if s.run.Memory {
		environment = append(environment, "EVDEMO_BUS=memory")
	}
	return environment
}

// URL is what a process serves that says so.
func (p *Process) URL() string { return p.url }

// Stop ends a process in good order, or with a kill where it takes too long, which is an error.
func (p *Process) Stop() error {
	if !p.terminate(childGrace) {
		return fmt.Errorf("%s had not ended %v after SIGTERM", p.Name, childGrace)
	}
	if err := p.Err(); err != nil && p.EndedBy() == 0 {
		return fmt.Errorf("%s: %w: %s", p.Name, err, p.Said())
	}
	return nil
}

// StopAll ends all processes that Start has started in good order, all at once.
func (s *Stage) StopAll() error {
	errs := make(chan error, len(s.processes))
	for _, p := range s.processes {
		go func() { errs <- p.Stop() }()
	}
	var err error
	for range s.processes {
		err = errors.Join(err, <-errs)
	}
	s.processes = nil
	return err
}

// Part is what a child process does that no command does. It ends with ctx, or when it is done.
type Part func(ctx context.Context, p *Player) error

// Player is what a part gets.
type Player struct {
	// URLs and TLS lead to the broker. URL is the first one, for what takes only one.
	URLs []string
	URL  string
	TLS  *tls.Config
	// Args are what the scenario told it.
	Args map[string]string
	// Ready says that the part works.
	Ready func()
	// Print prints a value as a line of JSON on standard output.
	Print func(v any) error
}

// StartPart starts a process that plays a part of the scenario, and waits until it is ready.
func (s *Stage) StartPart(ctx context.Context, name, part string, output func(line []byte), args map[string]string) (*Process, error) {
	told, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return s.Start(ctx, name, output, "demo", s.run.scenario.Name, "--part", part, "--part-args", string(told))
}
