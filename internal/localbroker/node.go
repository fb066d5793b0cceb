package localbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Node is a private RabbitMQ node. Its methods may be called from several goroutines; those that
// start or end the node wait for each other.
type Node struct {
	layout layout
	config Config
	ports  ports

	life sync.Mutex              // held while the node is being started or ended
	proc atomic.Pointer[process] // nil where another process started the node
	last atomic.Pointer[record]  // how it was last started
}

// startLimit ends a start whose context has no end of its own.
const startLimit = 2 * time.Minute

// Start starts a node and returns once a client can log in. If that does not happen before ctx
// ends, or the server ends first, the error is a [*StartError] and nothing keeps running.
//
// Where the directory has a living node already, that one is returned with [ErrAlreadyRunning]:
// of several processes that start a node in one directory at a time, one does and the others wait
// for it. The error wraps [ErrNotInstalled] where there is no rabbitmq-server, and
// [ErrPortInUse] where Config asks for a port that is taken.
func Start(ctx context.Context, c Config) (*Node, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{layout: layout{dir: c.Dir, node: c.NodeName}, config: c}
	lock, running, err := n.acquire(ctx)
	if err != nil {
		return running, err
	}
	defer lock.Close() // once more where it was handed over
	last, _, err := n.layout.read()
	if err != nil {
		c.Logger.Warn("state of an earlier node is not readable and is not used", slog.Any("error", err))
	}
	if last.Ports.PortMapper != 0 { // of a node whose starter was not there to see it die
		_ = endPortMapper(ctx, last.Ports.PortMapper)
	}
	want := ports{AMQP: c.Port, Management: c.ManagementPort}
	if n.ports, err = n.launch(ctx, lock, want, last.Ports); err != nil {
		return nil, err
	}
	if err := n.handOver(ctx, lock); err != nil {
		return nil, err
	}
	return n, nil
}

// acquire takes the directory's lock. Where a node holds it, that one is returned with
// ErrAlreadyRunning; while a node is being started there, it waits for the outcome.
func (n *Node) acquire(ctx context.Context) (*os.File, *Node, error) {
	for {
		lock, err := tryLock(n.layout.lock())
		if err != nil || lock != nil {
			return lock, nil, err
		}
		if running, err := Running(n.layout.dir); err == nil {
			return nil, running, fmt.Errorf("%w in %s", ErrAlreadyRunning, n.layout.dir)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, nil, fmt.Errorf("wait for the node that is being started in %s: %w", n.layout.dir, err)
		}
	}
}

// launch brings the node up, on other ports if one was lost to another process in between.
func (n *Node) launch(ctx context.Context, lock *os.File, want, last ports) (ports, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	// From here on nobody takes the last node for this one, and a start that fails can be removed.
	if err := n.layout.save(n.recordOf(0, last, "", time.Time{})); err != nil {
		return ports{}, err
	}
	for attempt := 1; ; attempt++ {
		p, err := choosePortsSoon(ctx, want, last)
		if err != nil {
			return p, err
		}
		err = n.up(ctx, lock, p)
		lostPort := err != nil && ctx.Err() == nil && !p.free(ctx)
		if !lostPort || attempt == 3 {
			return p, err
		}
		last = ports{}
	}
}

// up runs the server and waits until it is ready.
func (n *Node) up(ctx context.Context, lock *os.File, p ports) error {
	log := n.config.Logger
	if err := n.layout.write(p, n.config.ConfigExtra); err != nil {
		return err
	}
	begin := time.Now()
	log.Debug("RabbitMQ node is starting", slog.String("dir", n.layout.dir), slog.String("server", n.config.Server))
	proc, err := spawn(ctx, n.layout, n.config, p, lock)
	if err != nil {
		return err
	}
	version, err := ready(ctx, proc, p)
	r := n.recordOf(proc.cmd.Process.Pid, p, version, begin)
	if err == nil {
		err = n.layout.save(r)
	}
	if err != nil {
		_ = killGroup(proc.cmd.Process.Pid)
		<-proc.ended
		return &StartError{Err: err, Log: n.layout.lastWords(), LogDir: n.layout.logDir()}
	}
	n.last.Store(&r)
	n.proc.Store(proc)
	log.Info("RabbitMQ node is ready", slog.String("version", version), slog.String("address", address(p.AMQP)),
		slog.Int("pid", r.PID), slog.Duration("took", time.Since(begin).Round(time.Millisecond)))
	return nil
}

// handOver leaves the lock to the server, which has inherited it.
func (n *Node) handOver(ctx context.Context, lock *os.File) error {
	_ = lock.Close()
	if locked(n.layout.lock()) {
		return nil
	}
	_ = n.kill(ctx)
	return fmt.Errorf("start RabbitMQ node: %s has ended, or closes the files that it inherits", n.config.Server)
}

func (n *Node) recordOf(pid int, p ports, version string, started time.Time) record {
	return record{
		PID:           pid,
		URL:           "amqp://guest:guest@" + address(p.AMQP) + "/",
		ManagementURL: "http://" + address(p.Management),
		Dir:           n.layout.dir,
		Started:       started.UTC().Truncate(time.Second),
		NodeName:      n.config.NodeName,
		Version:       version,
		Server:        n.config.Server,
		Ports:         p,
		ConfigExtra:   n.config.ConfigExtra,
		Detached:      n.config.Detached,
	}
}

// ready waits until a client can log in and the management API answers, and returns the version
// of RabbitMQ.
func ready(ctx context.Context, proc *process, p ports) (version string, err error) {
	for {
		version, err = probe(ctx, p)
		if err == nil {
			return version, nil
		}
		select {
		case <-proc.ended:
			if proc.err == nil {
				return "", errors.New("the server ended with exit status 0 before it was ready")
			}
			return "", fmt.Errorf("the server ended: %w", proc.err)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return "", fmt.Errorf("given up: %w", ctx.Err())
			}
			return "", fmt.Errorf("not ready in time: %w: %w", ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func probe(ctx context.Context, p ports) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := login(ctx, address(p.AMQP)); err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	var overview struct {
		Version string `json:"rabbitmq_version"`
	}
	err = management{p.Management}.get(ctx, "overview?columns=rabbitmq_version", &overview)
	return overview.Version, err
}

// URL is where clients connect: amqp://guest:guest@127.0.0.1:PORT/. It stays the same over
// [Node.Restart].
func (n *Node) URL() string { return n.last.Load().URL }

// ManagementURL is the address of the management API and its web page; log in as guest, guest.
func (n *Node) ManagementURL() string { return n.last.Load().ManagementURL }

// Port is the AMQP port.
func (n *Node) Port() int { return n.ports.AMQP }

// ManagementPort is the port of the management API.
func (n *Node) ManagementPort() int { return n.ports.Management }

// PID is the process id of the Erlang VM, which changes over [Node.Restart].
func (n *Node) PID() int { return n.last.Load().PID }

// Started is when the node was last started.
func (n *Node) Started() time.Time { return n.last.Load().Started }

// Version is the version of RabbitMQ, such as 4.0.5.
func (n *Node) Version() string { return n.last.Load().Version }

// Server is the rabbitmq-server that it was started from.
func (n *Node) Server() string { return n.config.Server }

// Dir is the directory that holds all that the node writes.
func (n *Node) Dir() string { return n.layout.dir }

// LogDir is the directory of the node's logs.
func (n *Node) LogDir() string { return n.layout.logDir() }

// LogFile is the log that RabbitMQ writes while it runs.
func (n *Node) LogFile() string { return n.layout.log() }

// Alive tells whether the node runs.
func (n *Node) Alive() bool {
	if proc := n.proc.Load(); proc != nil {
		select {
		case <-proc.ended:
			return false
		default:
			return true
		}
	}
	running, err := Running(n.layout.dir)
	return err == nil && running.PID() == n.PID()
}

// Stop lets the node end in good order, which takes 1 s, or 8 s with RabbitMQ 3.10. If ctx ends before that, the node
// is killed and an error says so. A node that does not run is left as it is.
func (n *Node) Stop(ctx context.Context) error {
	n.life.Lock()
	defer n.life.Unlock()
	return n.stop(ctx)
}

func (n *Node) stop(ctx context.Context) error {
	if !n.Alive() {
		return nil
	}
	if err := terminate(n.PID()); err != nil {
		return fmt.Errorf("stop RabbitMQ node: %w", err)
	}
	err := n.awaitEnd(ctx)
	if err == nil {
		n.config.Logger.Info("RabbitMQ node has stopped", slog.Int("pid", n.PID()))
		return nil
	}
	if killErr := n.kill(ctx); killErr != nil {
		return killErr
	}
	return fmt.Errorf("stop RabbitMQ node: killed, because it had not ended in time: %w", err)
}

// Kill ends the node at once, as a crash would, and returns when it is gone. A node that does not
// run is left as it is.
func (n *Node) Kill() error {
	n.life.Lock()
	defer n.life.Unlock()
	return n.kill(context.Background())
}

func (n *Node) kill(ctx context.Context) error {
	if !n.Alive() {
		return nil
	}
	if err := killGroup(n.PID()); err != nil {
		return fmt.Errorf("kill RabbitMQ node: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := n.awaitEnd(ctx); err != nil {
		return fmt.Errorf("kill RabbitMQ node: process %d is still there: %w", n.PID(), err)
	}
	n.config.Logger.Info("RabbitMQ node was killed", slog.Int("pid", n.PID()))
	return nil
}

// awaitEnd waits until the node and its port mapper are gone.
func (n *Node) awaitEnd(ctx context.Context) error {
	proc := n.proc.Load()
	if proc != nil {
		if err := proc.wait(ctx); err != nil {
			return err
		}
	}
	for locked(n.layout.lock()) {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	if proc == nil {
		return endPortMapper(ctx, n.ports.PortMapper)
	}
	return nil
}

// Restart stops the node if it runs and starts it again, with the same ports and data. It also
// starts one that was stopped, was killed or has died. If the node does not stop before ctx ends, or
// does not come up, it is not running afterwards.
func (n *Node) Restart(ctx context.Context) error {
	n.life.Lock()
	defer n.life.Unlock()
	if err := n.stop(ctx); err != nil {
		return err
	}
	lock, _, err := n.acquire(ctx)
	if err != nil {
		return err
	}
	defer lock.Close() // once more where it was handed over
	if _, err = n.launch(ctx, lock, n.ports, n.ports); err != nil {
		return err
	}
	return n.handOver(ctx, lock)
}

// Remove kills the node if it runs and deletes what it wrote, and its directory unless that has
// other things in it.
func (n *Node) Remove() error {
	n.life.Lock()
	defer n.life.Unlock()
	if err := n.kill(context.Background()); err != nil {
		return err
	}
	for _, path := range n.layout.all() {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove RabbitMQ node: %w", err)
		}
	}
	_ = os.Remove(n.layout.dir) // fails where the directory has other things in it
	return nil
}
