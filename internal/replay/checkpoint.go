package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/gofrs/flock"
)

var (
	// ErrInUse is wrapped by the error of [OpenCheckpoint] where another replay has it.
	ErrInUse = errors.New("another replay goes by this checkpoint")
	// ErrOther is wrapped by the error of [OpenCheckpoint] where it belongs to another replay.
	ErrOther = errors.New("the checkpoint belongs to another replay")
	// ErrName is wrapped by the error of [OpenCheckpoint] for a name that it cannot have.
	ErrName = errors.New("a checkpoint's name has 1 to 100 letters, digits, dots, dashes and underscores, the first a letter or a digit")
)

// Checkpoint is where a replay has come to, in a file. One replay at a time has it.
type Checkpoint struct {
	path  string
	lock  *flock.Flock
	state checkpointState
}

// checkpointState is what the file holds.
type checkpointState struct {
	From    string    `json:"from"`
	To      string    `json:"to"`
	Next    int64     `json:"next"`
	Mark    string    `json:"mark,omitempty"`
	SavedAt time.Time `json:"saved_at"`
}

// OpenCheckpoint opens a checkpoint in a directory, or makes it. From and to say what is replayed and
// where to: with others than those it was made for it is refused. Close it after use.
func OpenCheckpoint(dir, name, from, to string) (*Checkpoint, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`).MatchString(name) {
		return nil, fmt.Errorf("checkpoint %.40q: %w", name, ErrName)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", name, err)
	}
	c := &Checkpoint{
		path: filepath.Join(dir, name+".json"), lock: flock.New(filepath.Join(dir, name+".lock")),
		state: checkpointState{From: from, To: to, Next: -1},
	}
	locked, err := c.lock.TryLock()
	if err == nil && !locked {
		err = ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", name, err)
	}
	err = c.load()
	if err == nil { // it shows whether it can be
		err = c.write()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open checkpoint %s: %w", name, err), c.Close())
	}
	return c, nil
}

// load reads what is there; nothing is a checkpoint that is at its beginning.
func (c *Checkpoint) load() error {
	want := c.state
	content, err := os.ReadFile(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, &c.state); err != nil || c.state.From == "" || c.state.Next < -1 {
		return fmt.Errorf("%s is damaged; remove it to begin again", c.path)
	}
	if c.state.Next < 0 { // nothing has gone by it yet
		c.state = want
		return nil
	}
	if c.state.From != want.From || c.state.To != want.To {
		return fmt.Errorf("%w: from %s %s; choose another name, or remove %s", ErrOther, c.state.From, c.state.To, c.path)
	}
	return nil
}

// Place is where the replay goes on; its Next is -1 where it is to begin.
func (c *Checkpoint) Place() Place { return Place{c.state.Next, c.state.Mark} }

// Save notes where the replay goes on. The file holds either this place or the one before it, also after
// a crash.
func (c *Checkpoint) Save(place Place) error {
	if place == c.Place() {
		return nil
	}
	before := c.state
	c.state.Next, c.state.Mark = place.Next, place.Mark
	err := c.write()
	if err != nil {
		c.state = before
	}
	return err
}

func (c *Checkpoint) write() error {
	c.state.SavedAt = time.Now().UTC().Truncate(time.Millisecond)
	content, err := json.MarshalIndent(c.state, "", "  ")
	if err == nil {
		err = replace(c.path, append(content, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return nil
}

// replace puts a whole new file in a file's place.
func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Close lets other replays have the checkpoint. Its place stays.
func (c *Checkpoint) Close() error { return c.lock.Close() }
