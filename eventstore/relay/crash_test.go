package relay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
)

const (
	crashKills  = 20
	crashWindow = 50
)

// child says what a relay in a process of its own is to do.
type child struct {
	DB, Broker, Queue string
	Window            int
}

// runChild runs a relay until it is killed, and says when it is the active one.
func runChild(ctx context.Context, spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	store, err := eventstore.Open(ctx, eventstore.Config{DB: c.DB, BusyTimeout: patience})
	if err != nil {
		return err
	}
	p, err := publisher.Open(ctx, publisher.Config{URLs: []string{c.Broker}, ConnectTimeout: patience})
	if err != nil {
		return err
	}
	r, err := relay.New(relay.Config{Store: store, Publisher: p, To: relay.ToQueue(c.Queue), Window: c.Window, Lease: shortLease})
	if err != nil {
		return err
	}
	go func() {
		looks := time.NewTicker(time.Millisecond)
		defer looks.Stop()
		for range looks.C {
			if r.Stats().Active {
				fmt.Fprintln(os.Stdout, "active")
				return
			}
		}
	}()
	return r.Run(ctx)
}

// process is a child that runs.
type process struct {
	*exec.Cmd
	active chan error // has nil once it is the active relay
}

func (c child) start(t *testing.T) *process {
	t.Helper()
	spec, err := json.Marshal(c)
	require.NoError(t, err)
	p := &process{exec.CommandContext(t.Context(), os.Args[0]), make(chan error, 1)}
	p.Env = append(os.Environ(), childEnv+"="+string(spec))
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil && line != "active\n" {
			err = fmt.Errorf("the child says %q", line)
		}
		p.active <- err
	}()
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
	if err := <-p.active; err != nil {
		return // it had not become the active one
	}
}

// A relay is killed with SIGKILL at random moments, again and again, while events are appended. Nothing is missing, each
// stream's events arrive for the first time in their order, and no kill has more repeated than the window.
func TestKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, testKills(1))
}

// The same with another relay that stands by and takes over.
func TestKilledAndTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, testKills(2))
}

// testKills kills the active one of several relays.
func testKills(relays int) func(*testing.T, string) {
	return func(t *testing.T, db string) {
		t.Helper()
		killRelays(t, db, relays)
	}
}

func killRelays(t *testing.T, db string, relays int) {
	t.Helper()
	url := brokertest.URL(t)
	store := open(t, eventstore.Config{DB: db, BusyTimeout: patience})
	c := child{DB: db, Broker: url, Queue: queue(t, url), Window: crashWindow}
	l := consume(t, url, c.Queue)
	appending, stop := context.WithCancel(t.Context())
	total := make(chan int, 1)
	go func() { total <- appendSteadily(appending, t, store, l) }()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	running := make([]*process, relays)
	for i := range running {
		running[i] = c.start(t)
	}
	for range crashKills {
		i := active(t, running)
		<-time.After(time.Duration(random.Int64N(int64(120 * time.Millisecond))))
		running[i].kill()
		running[i] = c.start(t)
	}
	stop()
	n := <-total
	eventually(t, func() bool { return l.reached() == int64(n) }, "the last event")
	for _, p := range running {
		p.kill()
	}
	got := l.of(n)
	t.Logf("%d events, %d repeated by %d kills, at most %d at a time", n, got.extra, crashKills, got.longest)
	assert.Zero(t, got.missing, "missing")
	assert.Empty(t, got.disorder)
	assert.LessOrEqual(t, got.longest, int64(crashWindow))
	assert.Positive(t, got.extra, "kills that repeat nothing have not hit what they were to hit")
}

// active waits until one of the processes is the active relay.
func active(t *testing.T, running []*process) int {
	t.Helper()
	deadline := time.After(patience)
	for {
		for i, p := range running {
			select {
			case err := <-p.active:
				require.NoError(t, err)
				p.active <- nil
				return i
			case <-deadline:
				require.FailNow(t, "no relay becomes active")
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// appendSteadily appends, a few hundred events ahead of the consumer so that relays always have work, and gives how many
// there are.
func appendSteadily(ctx context.Context, t *testing.T, store *eventstore.Store, l *ledger) (n int) {
	t.Helper()
	const ahead = 2000
	for ctx.Err() == nil {
		if n-int(l.reached()) > ahead {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if !assert.NoError(t, appendEvents(context.WithoutCancel(ctx), store, n, n+50)) {
			return n
		}
		n += 50
	}
	return n
}
