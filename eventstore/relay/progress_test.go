package relay

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// model is a progress as a person would write it down.
type model struct {
	window    int
	positions []int64 // of the events that were sent, in their order
	skipped   []int64 // behind each, the position up to which nothing is to be sent; 0 for none
	answers   []bool  // whether there was one
	confirmed []bool
	from      int64
	saved     int // how many events the checkpoint covers
	noted     int64
}

// reached is the position up to which everything is confirmed, and how many events that is.
func (m *model) reached() (position int64, events int) {
	position = m.from
	for i := range m.positions {
		if !m.confirmed[i] {
			return position, i
		}
		position = max(m.positions[i], m.skipped[i])
	}
	return position, len(m.positions)
}

func (m *model) open() (waiting []int) {
	for i, answered := range m.answers {
		if !answered {
			waiting = append(waiting, i)
		}
	}
	return waiting
}

// Whatever happens in whatever order: the checkpoint covers what is confirmed without a gap and no more, and no more than
// the window is ever sent beyond the checkpoint that was saved.
func TestProgress(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{window: rapid.IntRange(1, 8).Draw(t, "window"), from: 100, noted: 100}
		p := newProgress(m.window, m.from)
		next := m.from
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				n, ok := p.tryBegin(next + 1)
				_, confirmed := m.reached()
				room := len(m.positions)-m.saved < m.window && len(m.open()) <= confirmed
				require.Equal(t, room, ok)
				if !ok {
					return
				}
				require.Equal(t, int64(len(m.positions)), n)
				if rapid.IntRange(0, 9).Draw(t, "take back") == 0 {
					p.takeBack()
					return
				}
				next++
				m.positions, m.skipped = append(m.positions, next), append(m.skipped, 0)
				m.answers, m.confirmed = append(m.answers, false), append(m.confirmed, false)
			},
			"skip": func(*rapid.T) {
				next++
				p.skip(next)
				if len(m.positions) == 0 {
					m.from = next
				} else {
					m.skipped[len(m.skipped)-1] = next
				}
			},
			"answer": func(t *rapid.T) {
				waiting := m.open()
				if len(waiting) == 0 {
					return
				}
				n := rapid.SampledFrom(waiting).Draw(t, "event")
				m.answers[n], m.confirmed[n] = true, rapid.IntRange(0, 9).Draw(t, "confirmed") > 0
				p.answer(int64(n), m.confirmed[n])
			},
			"save": func(t *rapid.T) {
				position, covers, ok := p.unsaved()
				want, events := m.reached()
				require.Equal(t, want, position)
				require.Equal(t, int64(events), covers)
				require.Equal(t, want != m.noted, ok)
				if ok {
					p.save(position, covers)
					m.noted, m.saved = want, events
				}
			},
			"": func(t *rapid.T) {
				want, events := m.reached()
				position, confirmed := p.result()
				require.Equal(t, want, position)
				require.Equal(t, int64(events), confirmed)
				require.Equal(t, len(m.open()) == 0, p.quiet())
				require.LessOrEqual(t, len(m.positions)-m.saved, m.window)
			},
		})
	})
}
