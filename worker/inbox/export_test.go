package inbox

// Explain is for errors that a test cannot have from a file: the superuser may write to every one.
func Explain(err error) error { return explain(err) }

// Queued is how many requests wait for the writer.
func (s *Store) Queued() int {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return len(s.writer.queue)
}
