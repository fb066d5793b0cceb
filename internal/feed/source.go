// Package feed gives events to publish, one after the other, from a file, a stream or a
// generator, and pumps them through a publisher. A [Record] is a message written down as a whole.
package feed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
)

// maxLine bounds one line of JSONL: RabbitMQ's own limit for a message is 128 MiB at most.
const maxLine = 128 << 20

// Source gives events, and messages that are none. Next returns io.EOF at the end, and a *LineError for
// what cannot be read, after which Next may be called again. A message without a destination goes
// wherever its user sends it. A Source is used by one goroutine at a time.
type Source interface {
	Next() (publisher.Message, error)
}

// LineError says which line of which input is neither an event nor a record, and why.
type LineError struct {
	Name string
	Line int
	Err  error
}

// Error is "orders.jsonl:3: what is wrong".
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Name, e.Line, e.Err) }

// Unwrap gives what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

// Func is a Source that makes count events, or events without end where count is negative.
func Func(count int, next func() (event.Event, error)) Source {
	return &made{left: count, next: next}
}

type made struct {
	left int
	next func() (event.Event, error)
}

func (m *made) Next() (publisher.Message, error) {
	if m.left == 0 {
		return publisher.Message{}, io.EOF
	}
	m.left--
	e, err := m.next()
	return publisher.Message{Event: e}, err
}

// Lines reads JSONL: one event a line, in the forms that event.Parse knows, or one [Record]. Blank
// lines are passed over.
type Lines struct {
	name     string
	in       *bufio.Reader
	defaults event.Defaults
	line     int
	long     []byte // holds a line that does not fit the reader's buffer
	record   bool
	at       time.Time
	checks   []Check
}

// Check tells whether an event may be sent. It is not asked about messages that are no events.
type Check func(event.Event) error

// NewLines reads from r. The name stands in errors. What a check refuses is a *LineError.
func NewLines(name string, r io.Reader, defaults event.Defaults, checks ...Check) *Lines {
	return &Lines{name: name, in: bufio.NewReaderSize(r, 64<<10), defaults: defaults, checks: checks}
}

// Next gives the next line's message. Its data is its own, not the reader's. An object is a record where
// all its members are a record's and it has either an "event" with a "specversion" or an object "raw";
// everything else is read by event.Parse.
func (l *Lines) Next() (publisher.Message, error) {
	for {
		line, err := l.readLine()
		if err != nil && !errors.Is(err, io.EOF) { // what was read of the line may not be all of it
			return publisher.Message{}, fmt.Errorf("read %s: %w", l.name, err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			var r Record
			var parseErr error
			if r, l.record, parseErr = parse(line, l.defaults); parseErr != nil {
				return publisher.Message{}, &LineError{l.name, l.line, parseErr}
			}
			l.at = r.At
			if err := l.check(r.Message); err != nil {
				return publisher.Message{}, err
			}
			return r.Message, nil
		}
		if err != nil {
			return publisher.Message{}, io.EOF
		}
	}
}

func (l *Lines) check(m publisher.Message) error {
	if m.Raw != nil {
		return nil
	}
	for _, check := range l.checks {
		if err := check(m.Event); err != nil {
			return &LineError{l.name, l.line, err}
		}
	}
	return nil
}

// IsRecord tells whether the line that Next gave last was a record.
func (l *Lines) IsRecord() bool { return l.record }

// At is when the message of the record that Next gave last came; zero where nothing says.
func (l *Lines) At() time.Time { return l.at }

// readLine gives the next line, valid until the next call.
func (l *Lines) readLine() ([]byte, error) {
	l.line++
	line, err := l.in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	l.long = append(l.long[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = l.in.ReadSlice('\n')
		if l.long = append(l.long, line...); len(l.long) > maxLine {
			return nil, fmt.Errorf("line %d is longer than %d MiB", l.line, maxLine>>20)
		}
	}
	return l.long, err
}

// File is a Source over a file.
type File struct {
	*Lines
	// Count is how many events and records the file holds; -1 where nobody has looked.
	Count int

	file *os.File
	temp bool
}

// OpenFile reads the whole file once and checks every line before it gives the first event. It
// returns all faults, at most maxFaults of them, joined. Close the File after use.
func OpenFile(ctx context.Context, path string, defaults event.Defaults, checks ...Check) (*File, error) {
	f, regular, err := open(path)
	if err != nil {
		return nil, err
	}
	if !regular { // what can be read only once, such as a pipe, is kept
		defer func() { _ = f.Close() }()
		return Spool(ctx, path, f, defaults, checks...)
	}
	return check(ctx, path, f, defaults, false, checks)
}

// Stream reads a file, or a pipe, as it comes and checks nothing beforehand. Close the File after
// use.
func Stream(ctx context.Context, path string, defaults event.Defaults, checks ...Check) (*File, error) {
	f, _, err := open(path)
	if err != nil {
		return nil, err
	}
	return &File{Lines: NewLines(path, UntilDone(ctx, f), defaults, checks...), Count: -1, file: f}, nil
}

// open opens a file, and tells whether it can be read more than once.
func open(path string) (f *os.File, regular bool, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", path)
	}
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, info.Mode().IsRegular(), nil
}

// Spool copies a stream to a temporary file and checks every line before it gives the first
// event. Close the File after use: that removes the copy.
func Spool(ctx context.Context, name string, r io.Reader, defaults event.Defaults, checks ...Check) (*File, error) {
	f, err := os.CreateTemp("", "evdemo-*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("keep %s until it is checked: %w", name, err)
	}
	if _, err := io.Copy(f, UntilDone(ctx, r)); err != nil {
		_ = f.Close()
		return nil, errors.Join(fmt.Errorf("keep %s until it is checked: %w", name, err), os.Remove(f.Name()))
	}
	return check(ctx, name, f, defaults, true, checks)
}

// maxFaults is how many bad lines, and how many faults of one record, are named before the rest are only
// counted.
const maxFaults = 10

func check(ctx context.Context, name string, f *os.File, defaults event.Defaults, temp bool, checks []Check) (*File, error) {
	file := &File{file: f, temp: temp}
	err := file.checkAll(ctx, name, defaults, checks)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	file.Lines = NewLines(name, f, defaults)
	return file, nil
}

func (f *File) checkAll(ctx context.Context, name string, defaults event.Defaults, checks []Check) error {
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	lines := NewLines(name, f.file, defaults, checks...)
	var faults []error
	more := 0
	for ctx.Err() == nil {
		m, err := lines.Next()
		if err == nil && m.Raw == nil {
			if err = m.Event.Validate(); err != nil {
				err = &LineError{name, lines.line, err}
			}
		}
		var fault *LineError
		switch {
		case err == nil:
			f.Count++
		case errors.Is(err, io.EOF):
			if more > 0 {
				faults = append(faults, fmt.Errorf("and %d more bad lines", more))
			}
			return errors.Join(faults...)
		case !errors.As(err, &fault):
			return err
		case len(faults) < maxFaults:
			faults = append(faults, err)
		default:
			more++
		}
	}
	return context.Cause(ctx)
}

// Close closes the file, and removes it where it was a copy.
func (f *File) Close() error {
	err := f.file.Close()
	if f.temp {
		err = errors.Join(err, os.Remove(f.file.Name()))
	}
	return err
}
