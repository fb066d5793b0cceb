package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/evdemo/evdemo/internal/child"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// afterCrash is how long a process that has ended by itself stays away.
const afterCrash = time.Second

// process is a process of a part, which is started again whenever it has ended, until all are to end. Faults come one after
// the other: what is to be killed while it is away is killed once it is back.
type process struct {
	crew *crew
	name string
	args []string
	safe bool // nothing is done to it, and it may end by itself

	faults chan ordered
	open   chan struct{} // closed when it works for the first time
	opened sync.Once
}

// ordered is a fault that is to be done now.
type ordered struct {
	fault
	done func() // called when it is over
}

func newProcess(c *crew, name string, args []string) *process {
	return &process{crew: c, name: name, args: args, faults: make(chan ordered), open: make(chan struct{})}
}

// run keeps the process running until the crew is to end. The end of ctx kills it. It returns an error where the process
// cannot be started.
func (p *process) run(ctx context.Context) error {
	for {
		l, err := p.start(ctx)
		if err != nil {
			return err
		}
		if again, err := p.live(ctx, l); err != nil || !again {
			return err
		}
	}
}

// live does to a child what is to be done, and tells whether there is to be another one.
func (p *process) live(ctx context.Context, l *life) (again bool, err error) {
	for {
		select {
		case <-l.Exited():
			return p.ended(ctx, l)
		case f := <-p.faults:
			over := p.do(ctx, l, f)
			f.done()
			if over {
				return true, nil
			}
		case <-p.crew.stopping:
			p.terminate(ctx, l)
			p.crew.tally.count(l.counts())
			return false, nil
		case <-ctx.Done():
			l.Kill()
			return false, nil
		}
	}
}

// do does a fault, and tells whether it was the child's end.
func (p *process) do(ctx context.Context, l *life, f ordered) (over bool) {
	p.crew.logger.Info("fault", slog.String("kind", string(f.kind)), slog.String("process", p.name), slog.Duration("lasts", f.lasts))
	switch f.kind {
	case freeze:
		if l.Freeze() {
			p.crew.tally.add(freeze)
			pause(ctx, nil, f.lasts)
			l.Thaw()
		}
		return false
	case stop:
		p.crew.tally.add(stop)
		p.terminate(ctx, l)
		p.crew.tally.count(l.counts())
	case kill, killAll, killBroker:
		if killed := l.Kill(); killed {
			p.crew.tally.add(kill)
		} else {
			p.crashed(l)
		}
	}
	pause(ctx, nil, f.lasts)
	return true
}

// ended is for a child that nobody has ended.
func (p *process) ended(ctx context.Context, l *life) (again bool, err error) {
	select {
	case <-p.open:
	default:
		return false, fmt.Errorf("%w: %s: %w: %s", ErrStart, p.name, l.Err(), l.Said())
	}
	if p.safe {
		return false, nil
	}
	p.crashed(l)
	return pause(ctx, p.crew.stopping, afterCrash), nil
}

// terminate has the child end in good order, and kills it where it does not.
func (p *process) terminate(ctx context.Context, l *life) {
	ctx, cancel := context.WithTimeout(ctx, p.crew.grace)
	defer cancel()
	switch inTime := l.Terminate(ctx.Done()); {
	case inTime && l.Err() != nil && l.EndedBy() != syscall.SIGTERM: // by which one ends that has just been started
		p.ill("has failed after SIGTERM", l)
	case !inTime && errors.Is(ctx.Err(), context.DeadlineExceeded):
		p.crew.tally.crash(fmt.Sprintf("%s had not ended %v after SIGTERM", p.name, p.crew.grace))
	}
}

// crashed notes that a child has come to an end that nobody gave it.
func (p *process) crashed(l *life) { p.ill("has ended by itself", l) }

func (p *process) ill(how string, l *life) {
	p.crew.logger.Warn("a part is not well", slog.String("process", p.name), slog.String("how", how), slog.Any("error", l.Err()), slog.String("said", l.Said()))
	p.crew.tally.crash(fmt.Sprintf("%s %s: %v: %s", p.name, how, l.Err(), l.Said()))
}

// pause waits, and tells whether neither ctx nor other has ended meanwhile.
func pause(ctx context.Context, other <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-other:
		return false
	}
}

// life is one life of a process.
type life struct {
	*child.Process
	out bytes.Buffer // read it after its end
}

func (p *process) start(ctx context.Context) (*life, error) {
	file, err := os.OpenFile(filepath.Join(p.crew.logs, p.name+".jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &life{}
	l.Process, err = p.crew.group.Start(ctx, child.Config{
		Binary: p.crew.binary, Args: p.args, Environment: p.crew.environment, Log: file,
		Ready: []string{"consuming"}, Opened: func([]byte) { p.opened.Do(func() { close(p.open) }) },
		Output: func(line []byte) { l.out.Write(line) },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrStart, p.name, err), file.Close())
	}
	go func() { // it ends with the process
		<-l.Exited()
		_ = file.Close()
	}()
	return l, nil
}

// counts is what a process that has ended in good order has done.
func (l *life) counts() (counts []system.Count) {
	<-l.Exited()
	_ = json.Unmarshal(l.out.Bytes(), &counts) // one that was killed says nothing
	return counts
}
