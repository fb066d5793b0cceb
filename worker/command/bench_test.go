package command_test

import (
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

// fourAtOnce calls work b.N times from four goroutines.
func fourAtOnce(b *testing.B, work func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	b.ResetTimer()
	for range 4 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := work(); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

// What it costs to start a command without an event: what BenchmarkHandle4 is measured by.
func BenchmarkBare4(b *testing.B) {
	fourAtOnce(b, func() error { return (&exec.Cmd{Path: "/bin/true", Args: []string{"/bin/true"}}).Run() })
}

func BenchmarkHandle4(b *testing.B) {
	r, err := command.New(command.Config{Command: "/bin/true"})
	require.NoError(b, err)
	e, err := event.New("order.created", "bench", map[string]string{"order": "order-4711", "total": "129.90"})
	require.NoError(b, err)
	d := &worker.Delivery{Event: e, Queue: "payments", Attempt: 1, Headers: map[string]any{"tenant": "a", "n": int32(1)}}
	handle := worker.Wrap(r.Handle, worker.Timeout(time.Minute))
	fourAtOnce(b, func() error { return handle(b.Context(), d) })
}
