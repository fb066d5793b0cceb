package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// screen shows how the tour goes: lines as they come, and below them, on a terminal, a table that is drawn again and again.
type screen struct {
	run   *run
	to    io.Writer
	mu    sync.Mutex
	drawn int // lines of the table on the terminal now
}

// Write prints lines above the table.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	return s.to.Write(b)
}

func (s *screen) clear() {
	if s.drawn > 0 {
		fmt.Fprintf(s.to, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

// draw shows who has done how much.
func (s *screen) draw() {
	if !s.run.Live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.rows()
	s.clear()
	fmt.Fprintln(s.to, strings.Join(rows, "\n"))
	s.drawn = len(rows)
}

func (s *screen) rows() []string {
	rows := []string{"", row("placed", s.run.ledger.Attempts())}
	for _, name := range s.run.consumers() {
		n, _ := s.run.ledger.Done(name)
		rows = append(rows, row(name, n))
	}
	return rows
}

func row(name string, n int) string {
	const width = 30
	filled := min(n*width/orders, width)
	return fmt.Sprintf("  %-10s %s %5d of %d", name, strings.Repeat("█", filled)+strings.Repeat("·", width-filled), n, orders)
}
