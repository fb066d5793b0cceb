package demo_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/demo"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

const (
	patience = 60 * time.Second
	tick     = 10 * time.Millisecond
)

// stage is a demo whose processes only play.
type stage struct {
	config demo.Config
	screen lockedBuffer
}

func newStage(t *testing.T, how string) *stage {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	var sample bytes.Buffer
	for i := range events {
		fmt.Fprintf(&sample, `{"specversion":"1.0","id":"event-%d","source":"s","type":"t"}`+"\n", i)
	}
	s := &stage{}
	s.config = demo.Config{
		Executable: executable, URLs: session.SplitURLs(brokertest.URL(t)), Events: sample.Bytes(),
		Environment: []string{behaviour + "=" + how, "GORACE=atexit_sleep_ms=0"}, Screen: &s.screen,
		Logger: slog.New(slog.NewTextHandler(&s.screen, nil)), ConnectTimeout: patience,
	}
	return s
}

// run runs the demo and sees that it leaves nothing behind.
func (s *stage) run(ctx context.Context, t *testing.T) (demo.Report, error) {
	t.Helper()
	report, err := demo.Run(ctx, s.config)
	prefix := regexp.MustCompile(`begins with "(demo-\w+\.)"`).FindStringSubmatch(s.screen.String())
	require.NotNil(t, prefix, &s.screen)
	broker, dialErr := session.DialWithin(t.Context(), session.Config{URLs: s.config.URLs, Name: "evdemo test"}, patience)
	require.NoError(t, dialErr)
	defer broker.Close()
	states, inspectErr := topology.Default().WithPrefix(prefix[1]).Resources().Inspect(t.Context(), broker)
	require.NoError(t, inspectErr)
	for _, state := range states {
		assert.False(t, state.Exists, "%s %s was left", state.Kind, state.Name)
	}
	return report, err
}

// lockedBuffer is a buffer that one goroutine reads while another writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// failing gives the claims that do not hold, with their figures.
func failing(r demo.Report) []string {
	var claims []string
	for _, c := range r.Claims {
		if !c.Holds {
			claims = append(claims, c.Text+" ("+c.Figures+")")
		}
	}
	return claims
}

func TestLedgerHolds(t *testing.T) {
	t.Parallel()
	s := newStage(t, "all is well")
	report, err := s.run(t.Context(), t)
	require.NoError(t, err)
	assert.True(t, report.Holds)
	assert.Empty(t, failing(report))
	assert.Len(t, report.Claims, 5)
	assert.Equal(t, "worker-2", report.Killed)
	assert.Positive(t, report.Seconds)
	assert.Equal(t, 10, report.Redelivered, "two that each consumer tells of, but for the killed one")
	a := report.Account
	assert.Equal(t, events, a.Attempted)
	assert.Equal(t, map[string]int{"confirmed": events}, a.Outcomes)
	assert.Zero(t, a.Unaccounted)
	require.Len(t, a.Consumers, 4)
	for _, c := range a.Consumers {
		assert.Equal(t, []int{events, 0, 0}, []int{c.Effects, c.Missing, c.Extra}, c.Name)
	}
	assert.Equal(t, []ledger.Member{{Name: "worker-1", Effects: 10}, {Name: "worker-2", Effects: 10}, {Name: "worker-3", Effects: 10}}, a.Consumers[3].Members)
	assert.NotContains(t, s.screen.String(), "\x1b", "this is no terminal")
	assert.Contains(t, s.screen.String(), `msg="child says" child=email line="{\"level\":\"WARN\",\"msg\":\"something of note\"}"`)
}

// A proof that cannot fail proves nothing.
func TestLedgerDoesNotHold(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"email misses one": {"listener email got every event (29 effects, 1 missing, 0 extra)"},
		"one is returned":  {"every published event was confirmed (30 published, 29 confirmed, 0 without an outcome)"},
		"one is forgotten": {"every published event was confirmed (30 published, 29 confirmed, 1 without an outcome)"},
		"worker-3 is idle": {"the workers shared payments, and the killed one lost nothing (30 effects, 0 missing, 0 extra)"},
	}
	for how, want := range tests {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			report, err := newStage(t, how).run(t.Context(), t)
			require.NoError(t, err)
			assert.False(t, report.Holds)
			assert.Equal(t, want, failing(report))
		})
	}
}

func TestDuplicatesAreCountedAndNoLoss(t *testing.T) {
	t.Parallel()
	report, err := newStage(t, "broadcast gets one twice").run(t.Context(), t)
	require.NoError(t, err)
	assert.True(t, report.Holds, "delivery is at least once")
	assert.Equal(t, 1, report.Account.Consumers[2].Extra)
	assert.Equal(t, events, report.Account.Consumers[2].Effects)
}

func TestProcessesThatFail(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"email does not start":      "email did not start: exit status 1: out of order",
		"publisher fails":           `publish: exit status 4: {"level":"ERROR","msg":"no ink"}`,
		"publisher writes nothing":  "the publisher left no outcomes: ",
		"publisher writes nonsense": "read outcomes: ",
	}
	for how, want := range tests {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			report, err := newStage(t, how).run(t.Context(), t)
			require.ErrorContains(t, err, want)
			assert.False(t, report.Holds)
		})
	}
	t.Run("no executable", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, "")
		s.config.Executable = filepath.Join(t.TempDir(), "missing")
		_, err := s.run(t.Context(), t)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorContains(t, err, "start worker-1: ")
	})
}

// A process that does not stop when told to is killed in the end.
func TestProcessThatDoesNotStop(t *testing.T) {
	t.Parallel()
	report, err := newStage(t, "email does not stop").run(t.Context(), t)
	require.NoError(t, err)
	assert.True(t, report.Holds)
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"begins with", "3 workers compete", "Publishing", "Killed"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "publisher never ends")
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				defer interrupt()
				assert.Eventually(t, func() bool { return strings.Contains(s.screen.String(), moment) }, patience, tick)
			}()
			report, err := s.run(ctx, t)
			<-watched
			require.ErrorIs(t, err, context.Canceled)
			assert.False(t, report.Holds)
		})
	}
}

func TestNoBroker(t *testing.T) {
	t.Parallel()
	s := newStage(t, "")
	s.config.URLs = []string{"amqp://guest:sEcret@127.0.0.1:1/"}
	s.config.ConnectTimeout = 50 * time.Millisecond
	_, err := demo.Run(t.Context(), s.config)
	require.ErrorIs(t, err, session.ErrUnreachable)
	assert.NotContains(t, err.Error(), "sEcret")
	assert.Empty(t, s.screen.String())
}

func TestBadSample(t *testing.T) {
	t.Parallel()
	s := newStage(t, "")
	for sample, want := range map[string]string{
		"nonsense\n":                      "sample event 1 has no id",
		"{\"id\":\"a\"}\n{\"id\":\"\"}\n": "sample event 2 has no id",
	} {
		s.config.Events = []byte(sample)
		_, err := demo.Run(t.Context(), s.config)
		require.EqualError(t, err, want)
	}
}

// On a terminal a table is drawn again and again, below the lines that are said.
func TestLiveTable(t *testing.T) {
	t.Parallel()
	s := newStage(t, "all is well")
	s.config.Live = true
	_, err := s.run(t.Context(), t)
	require.NoError(t, err)
	shown := s.screen.String()
	assert.Regexp(t, `\x1b\[8A\x1b\[J`, shown, "eight lines are drawn anew")
	last := shown[strings.LastIndex(shown, "\x1b[J"):]
	for _, row := range []string{
		"  email      ██████████████████████████████    30 of 30",
		"  payments   ██████████████████████████████    30 of 30",
		"    worker-1 ██████████····················    10",
		"    worker-2 ██████████····················    10  killed",
	} {
		assert.Contains(t, last, row+"\n")
	}
}
