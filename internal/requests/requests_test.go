package requests

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQueue(t *testing.T) {
	t.Parallel()
	q := New[int](2)
	for n := range 3 {
		require.True(t, q.Add(n))
	}
	<-q.Wake()
	group, last := q.Take()
	require.Equal(t, []int{0, 1}, group)
	require.False(t, last)
	q.Close()
	require.False(t, q.Add(3), "too late")
	<-q.Wake() // for what was left, and for the end
	group, last = q.Take()
	require.Equal(t, []int{2}, group)
	require.True(t, last)
	require.Empty(t, q.Wake())
}
