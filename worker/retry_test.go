package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/worker"
)

var errFlaky = errors.New("connection reset")

// failing is a handler that fails so many times, and notes when it was called.
func failing(times int, err error) (handle worker.Handler, calls *[]time.Time) {
	calls = new([]time.Time)
	return func(context.Context, *worker.Delivery) error {
		if *calls = append(*calls, time.Now()); len(*calls) <= times {
			return fmt.Errorf("call %d: %w", len(*calls), err)
		}
		return nil
	}, calls
}

func TestRetryTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle, calls := failing(2, errFlaky)
		d := &worker.Delivery{Attempt: 3}
		require.NoError(t, worker.Wrap(handle, worker.Retry(3, time.Second))(t.Context(), d))
		assert.Len(t, *calls, 3)
		assert.Equal(t, 3, d.Attempt, "it is one attempt for the worker")
	})
}

func TestRetryGivesTheLastError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle, calls := failing(10, errFlaky)
		err := worker.Wrap(handle, worker.Retry(4, time.Second))(t.Context(), &worker.Delivery{})
		require.ErrorIs(t, err, errFlaky)
		require.EqualError(t, err, "call 4: connection reset")
		assert.Len(t, *calls, 4)
	})
}

func TestRetryWithoutAttemptsToSpare(t *testing.T) {
	t.Parallel()
	for _, attempts := range []int{-1, 0, 1} {
		handle, calls := failing(10, errFlaky)
		require.ErrorIs(t, worker.Wrap(handle, worker.Retry(attempts, time.Hour))(t.Context(), &worker.Delivery{}), errFlaky)
		assert.Len(t, *calls, 1)
	}
}

// Each wait is within its bound: initial, doubled each time, at most 10 s or initial.
func TestRetryWaits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		attempts := rapid.IntRange(2, 12).Draw(rt, "attempts")
		initial := time.Duration(rapid.Int64Range(int64(time.Microsecond), int64(time.Minute)).Draw(rt, "initial"))
		synctest.Test(t, func(t *testing.T) {
			handle, calls := failing(attempts, errFlaky)
			require.Error(t, worker.Wrap(handle, worker.Retry(attempts, initial))(t.Context(), &worker.Delivery{}))
			require.Len(t, *calls, attempts)
			bound, most := initial, max(initial, 10*time.Second)
			for i := 1; i < attempts; i++ {
				wait := (*calls)[i].Sub((*calls)[i-1])
				assert.LessOrEqual(t, wait, bound+2, "wait %d with %v at first", i, initial)
				bound = min(2*bound, most)
			}
		})
	})
}

// Waits are spread over the whole of their range: what fails together does not come back together.
func TestRetryWaitsAreSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var quarters [4]int
		for range 400 {
			handle, calls := failing(1, errFlaky)
			require.NoError(t, worker.Wrap(handle, worker.Retry(2, time.Second))(t.Context(), &worker.Delivery{}))
			quarters[min((*calls)[1].Sub((*calls)[0])/(250*time.Millisecond), 3)]++
		}
		for i, n := range quarters {
			assert.Greater(t, n, 40, "quarter %d of %v", i, quarters) // 100 each on average
		}
	})
}

func TestRetryLeavesAlone(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"permanent":         worker.Permanent(errFlaky),
		"retry after":       worker.RetryAfter(time.Minute, errFlaky),
		"skip":              worker.ErrSkip,
		"requeue":           worker.ErrRequeue,
		"duplicate":         worker.ErrDuplicate,
		"panic":             &worker.PanicError{Value: "no"},
		"permanent, joined": errors.Join(errFlaky, worker.Permanent(errFlaky)),
	} {
		handle, calls := failing(10, err)
		got := worker.Wrap(handle, worker.Retry(5, time.Hour))(t.Context(), &worker.Delivery{})
		require.ErrorIs(t, got, err, name)
		assert.Len(t, *calls, 1, name)
	}
}

func TestRetryStopsAtAnErrorThatIsNotForIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := worker.Wrap(func(context.Context, *worker.Delivery) error {
			if calls++; calls == 2 {
				return worker.Permanent(errors.New("no such order"))
			}
			return errFlaky
		}, worker.Retry(5, time.Second))(t.Context(), &worker.Delivery{})
		require.EqualError(t, err, "no such order")
		assert.Equal(t, 2, calls)
	})
}

// The end of the context ends the waiting at once, and the handler's error is what is told: the
// policy judges by it.
func TestRetryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		handle, calls := failing(1000, errFlaky)
		began := time.Now()
		err := worker.Wrap(handle, worker.Retry(1000, time.Hour))(ctx, &worker.Delivery{})
		require.ErrorIs(t, err, errFlaky)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		assert.LessOrEqual(t, time.Since(began), time.Second)
		assert.NotEmpty(t, *calls)

		handle, calls = failing(1000, errFlaky)
		require.ErrorIs(t, worker.Wrap(handle, worker.Retry(1000, 0))(ctx, &worker.Delivery{}), errFlaky)
		assert.Len(t, *calls, 1, "the context had ended before")
	})
}

// A limit inside is one for each call, and one around is for all together.
func TestRetryAndTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		slow := func(ctx context.Context, _ *worker.Delivery) error {
			if calls++; calls == 3 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		inside := worker.Wrap(slow, worker.Retry(3, time.Second), worker.Timeout(time.Minute))
		require.NoError(t, inside(t.Context(), &worker.Delivery{}))
		assert.Equal(t, 3, calls)

		calls = 0
		around := worker.Wrap(slow, worker.Timeout(time.Minute), worker.Retry(3, time.Second))
		require.ErrorIs(t, around(t.Context(), &worker.Delivery{}), worker.ErrTimeout)
		assert.Equal(t, 1, calls)
	})
}

// One middleware serves all handlers of a worker at once.
func TestRetryIsSharedByHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		retry := worker.Retry(6, time.Second)
		results := make(chan error, 50)
		for range cap(results) {
			handle, _ := failing(5, errFlaky)
			go func() { results <- worker.Wrap(handle, retry)(t.Context(), &worker.Delivery{}) }()
		}
		for range cap(results) {
			assert.NoError(t, <-results)
		}
	})
}

func ExampleRetry() {
	calls := 0
	charge := func(context.Context, *worker.Delivery) error {
		if calls++; calls < 3 {
			return errors.New("database is locked")
		}
		return nil
	}
	handle := worker.Wrap(charge, worker.Timeout(10*time.Second), worker.Retry(4, 10*time.Millisecond))
	err := handle(context.Background(), &worker.Delivery{Queue: "payments", Attempt: 1})
	fmt.Println("calls:", calls, "error:", err)
	// Output: calls: 3 error: <nil>
}
