package turns

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Callers that want several names, in any order and some of them twice, are alone with each of them, and all get through.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	var (
		all    Turns
		inside [5]atomic.Int32
		crowd  sync.WaitGroup
	)
	names := []string{"a", "b", "c", "d", "e"}
	for range 32 {
		crowd.Go(func() {
			for range 200 {
				picked := rand.Perm(len(names))[:1+rand.IntN(3)]
				wanted := make([]string, 0, len(picked)+1)
				for _, n := range picked {
					wanted = append(wanted, names[n])
				}
				wanted = append(wanted, wanted[0])
				leave, err := all.EnterAll(t.Context(), wanted)
				if err != nil {
					t.Error(err)
					return
				}
				for _, n := range picked {
					assert.EqualValues(t, 1, inside[n].Add(1), "in the turn of %s", names[n])
				}
				for _, n := range picked {
					inside[n].Add(-1)
				}
				leave()
			}
		})
	}
	crowd.Wait()
	assert.Empty(t, all.entries, "what nobody waits for is forgotten")
}

// Who gives up waiting has none of the turns, and those that were had already are free again.
func TestGivingUp(t *testing.T) {
	t.Parallel()
	var all Turns
	leave, err := all.Enter(t.Context(), "b")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := all.EnterAll(ctx, []string{"c", "b", "a"})
		ended <- err
	}()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	leaveOthers, err := all.EnterAll(t.Context(), []string{"a", "c"})
	require.NoError(t, err)
	leaveOthers()
	leave()
	leave, err = all.EnterAll(t.Context(), []string{"a", "b", "c"})
	require.NoError(t, err)
	leave()
	assert.Empty(t, all.entries)
}

func TestNoNames(t *testing.T) {
	t.Parallel()
	var all Turns
	leave, err := all.EnterAll(t.Context(), nil)
	require.NoError(t, err)
	leave()
	assert.Empty(t, all.entries)
}
