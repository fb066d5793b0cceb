package worker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// fakeChannel keeps the books of a broker's channel: which deliveries are out, and what became of
// the others. Like a broker it takes no acknowledgement of a tag that it does not know.
type fakeChannel struct {
	out      map[uint64]bool
	acked    map[uint64]bool
	requeued map[uint64]bool
	frames   int
	broken   error
}

func newFakeChannel() *fakeChannel {
	return &fakeChannel{out: map[uint64]bool{}, acked: map[uint64]bool{}, requeued: map[uint64]bool{}}
}

func (c *fakeChannel) Ack(tag uint64, multiple bool) error {
	if c.broken != nil {
		return c.broken
	}
	c.frames++
	if !c.out[tag] {
		return fmt.Errorf("unknown delivery tag %d", tag)
	}
	for t := range c.out {
		if t == tag || (multiple && t < tag) {
			delete(c.out, t)
			c.acked[t] = true
		}
	}
	return nil
}

func (c *fakeChannel) Nack(tag uint64, multiple, requeue bool) error {
	if c.broken != nil {
		return c.broken
	}
	if multiple || !requeue || !c.out[tag] {
		return fmt.Errorf("nack of %d (multiple %v, requeue %v)", tag, multiple, requeue)
	}
	delete(c.out, tag)
	c.requeued[tag] = true
	return nil
}

// Whatever the order in which handlers finish: what is acknowledged was handled, what was given
// back was not, and after a flush nothing that was handled is still out.
func TestAcksSettleWhatWasHandledAndNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		prefetch := rapid.IntRange(1, 20).Draw(t, "prefetch")
		channel := newFakeChannel()
		a := newAcks(channel, prefetch, rapid.IntRange(1, 10).Draw(t, "every"), time.Hour)
		handled, back := map[uint64]bool{}, map[uint64]bool{}
		var running []uint64
		var next uint64
		take := func() uint64 {
			i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
			tag := running[i]
			running = append(running[:i], running[i+1:]...)
			return tag
		}
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				if len(channel.out) == prefetch {
					t.Skip("prefetch is used up")
				}
				next++
				channel.out[next] = true
				running = append(running, next)
			},
			"handled": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip("nothing runs")
				}
				tag := take()
				handled[tag] = true
				require.NoError(t, a.ack(tag))
			},
			"failed": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip("nothing runs")
				}
				tag := take()
				back[tag] = true
				require.NoError(t, a.requeue(tag))
			},
			"flush": func(t *rapid.T) {
				require.NoError(t, a.flush())
				for tag := range handled {
					require.True(t, channel.acked[tag], "handled tag %d is still out after a flush", tag)
				}
			},
			"": func(t *rapid.T) {
				for tag := range channel.acked {
					require.True(t, handled[tag], "tag %d was acknowledged and not handled", tag)
				}
				require.Equal(t, back, channel.requeued)
			},
		})
		require.NoError(t, a.flush())
		require.Len(t, channel.acked, len(handled))
	})
}

func TestAcksBehindASlowEventUseUpNoPrefetch(t *testing.T) {
	t.Parallel()
	channel := newFakeChannel()
	a := newAcks(channel, 4, 2, time.Hour)
	for tag := uint64(1); tag <= 10_000; tag++ {
		channel.out[tag] = true
		if tag > 1 { // the first is slow
			require.NoError(t, a.ack(tag))
		}
		require.LessOrEqual(t, len(channel.out), 4)
	}
	require.NoError(t, a.ack(1))
	require.NoError(t, a.flush())
	assert.Empty(t, channel.out)
}

func TestAcksOfABurstAreOneFrame(t *testing.T) {
	t.Parallel()
	channel := newFakeChannel()
	a := newAcks(channel, 200, 100, time.Hour)
	for tag := uint64(1); tag <= 100; tag++ {
		channel.out[tag] = true
		require.NoError(t, a.ack(tag))
	}
	assert.Equal(t, 1, channel.frames)
	assert.Len(t, channel.acked, 100)
}

func TestAcksFlushByThemselves(t *testing.T) {
	t.Parallel()
	channel := newFakeChannel()
	a := newAcks(channel, 200, 100, time.Millisecond)
	channel.out[1] = true
	require.NoError(t, a.ack(1))
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return channel.acked[1]
	}, 5*time.Second, time.Millisecond)
}

func TestAcksOfALostChannelAreLate(t *testing.T) {
	t.Parallel()
	channel := newFakeChannel()
	a := newAcks(channel, 10, 2, time.Hour)
	for tag := uint64(1); tag <= 3; tag++ {
		channel.out[tag] = true
	}
	require.NoError(t, a.ack(1), "one is gathered")
	channel.broken = errors.New("connection lost")
	require.NoError(t, a.ack(2), "the flush fails, and close counts it")
	require.ErrorIs(t, a.ack(3), errLate)
	require.ErrorIs(t, a.requeue(3), errLate)
	assert.Equal(t, 2, a.close(), "1 and 2 were handled and not acknowledged")
	assert.Empty(t, channel.acked)
}
