package replay

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// In whatever order items end, the prefix goes as far as all have ended, and no further.
func TestPrefix(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newPrefix(Place{Next: -1})
		var nexts []int64
		var open []int // places that have not ended
		ended := map[int]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(open) == 0 || rapid.Bool().Draw(t, "add") {
				next := int64(len(nexts)) + rapid.Int64Range(1, 3).Draw(t, "gap")
				if len(nexts) > 0 {
					next += nexts[len(nexts)-1]
				}
				nexts = append(nexts, next)
				open = append(open, p.add(next, nil))
			} else {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				p.done(open[i])
				ended[open[i]] = true
				open = append(open[:i], open[i+1:]...)
			}
			want := int64(-1)
			for place := 0; ended[place]; place++ {
				want = nexts[place]
			}
			require.Equal(t, want, p.next)
			require.Len(t, p.items, len(nexts)-p.first, "what has ended is forgotten")
		}
	})
}
