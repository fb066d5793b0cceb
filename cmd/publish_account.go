package cmd

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"

	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

// namedAtMost bounds how many events without a confirm are named on standard error.
const namedAtMost = 1000

// account follows the outcomes of a run and reports it.
type account struct {
	app  *App
	opts *publishOptions
	bar  *progressbar.ProgressBar

	file  *os.File
	lines *bufio.Writer
	err   error // of writing the outcomes file
	named int
}

// outcomeLine is a line of the --outcomes file.
type outcomeLine struct {
	ID       string `json:"id"`
	Outcome  string `json:"outcome"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error,omitempty"`
}

func newAccount(app *App, opts *publishOptions, total int) (*account, error) {
	a := &account{app: app, opts: opts}
	if opts.outcomes != "" {
		if sameFile(opts.file, opts.outcomes) {
			return nil, errors.New("--outcomes would overwrite --file")
		}
		f, err := os.Create(opts.outcomes)
		if err != nil {
			return nil, fmt.Errorf("--outcomes: %w", err)
		}
		a.file, a.lines = f, bufio.NewWriterSize(f, 64<<10)
	}
	a.bar = app.progress(total, "confirmed")
	return a, nil
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// outcome is what the pump calls for each result.
func (a *account) outcome() func(publisher.Result) {
	return func(r publisher.Result) {
		if a.bar != nil {
			_ = a.bar.Add(1)
		}
		if r.Outcome != publisher.Confirmed {
			a.name(r)
		}
		if a.lines != nil {
			a.write(r)
		}
	}
}

func (a *account) name(r publisher.Result) {
	a.named++
	switch {
	case a.named <= namedAtMost:
		a.print("%s: %s%s", r.Outcome, describe(r.Message), because(r.Err))
	case a.named == namedAtMost+1:
		a.print("more events did not get through; --outcomes FILE writes the outcome of every one")
	}
}

// describe names a message. A raw one need not have an id, and its properties may be anything.
func describe(m publisher.Message) string {
	const widest = 255
	switch {
	case m.Raw == nil:
		return fmt.Sprintf("event %s (%s)", m.Event.ID, m.Event.Type)
	case m.Raw.MessageID == "":
		return fmt.Sprintf("message without an id (%s)", printable(m.Raw.Type, widest))
	default:
		return fmt.Sprintf("message %s (%s)", printable(m.Raw.MessageID, widest), printable(m.Raw.Type, widest))
	}
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// invalid is what the pump calls for a line that is no event.
func (a *account) invalid(err error) { a.print("not sent: %v", err) }

// aboveBar clears the progress bar before a line is written, so that the two do not run together.
type aboveBar struct {
	io.Writer
	bar *progressbar.ProgressBar
}

func (w aboveBar) Write(p []byte) (int, error) {
	_ = w.bar.Clear()
	return w.Writer.Write(p)
}

func (a *account) print(format string, args ...any) {
	fmt.Fprintf(a.app.Err, format+"\n", args...)
}

func (a *account) write(r publisher.Result) {
	line := outcomeLine{ID: r.Message.ID(), Outcome: r.Outcome.String(), Attempts: r.Attempts}
	if r.Err != nil {
		line.Error = r.Err.Error()
	}
	b, err := json.Marshal(line)
	if err == nil {
		_, err = a.lines.Write(append(b, '\n'))
	}
	a.err = errors.Join(a.err, err)
}

func (a *account) closeFile() error {
	if a.file == nil {
		return nil
	}
	return errors.Join(a.lines.Flush(), a.file.Close())
}

// close prints the report and gives the run's error.
func (a *account) close(report feed.Report, err error) error {
	if a.bar != nil {
		_ = a.bar.Finish()
	}
	a.err = errors.Join(a.err, a.closeFile())
	if a.opts.output.json() {
		err = errors.Join(err, writeJSON(a.app.Out, report))
	} else {
		_, printErr := fmt.Fprintln(a.app.Out, reportText(report))
		err = errors.Join(err, printErr)
	}
	if a.err != nil {
		err = errors.Join(err, fmt.Errorf("--outcomes: %w", a.err))
	}
	if err == nil && !report.Complete() {
		err = &exitError{exitIncomplete, fmt.Errorf("%s of %s events did not get through",
			thousands(report.Sent+report.Invalid-report.Confirmed), thousands(report.Sent+report.Invalid))}
	}
	return err
}

func reportText(r feed.Report) string {
	s := fmt.Sprintf("sent %s  confirmed %s  returned %s  nacked %s  unknown %s  in %.2f s (%s per second)",
		thousands(r.Sent), thousands(r.Confirmed), thousands(r.Returned), thousands(r.Nacked), thousands(r.Unknown),
		r.Seconds, thousands(int64(r.PerSecond)))
	if r.Resent > 0 {
		s += fmt.Sprintf("\nsent again after a lost connection: %s (each may have arrived twice)", thousands(r.Resent))
	}
	if r.Invalid > 0 {
		s += fmt.Sprintf("\nlines that are no events, not sent: %s", thousands(r.Invalid))
	}
	return s
}
