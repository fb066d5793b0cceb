package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// A process whose file system is full loses nothing that it was told was written, and goes on once there is room; one
// whose file system cannot be written to is told so. The file system is one that only this process sees.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	cmd := childOf(t, "small disk", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), "mount: operation not permitted") {
		t.Skipf("this system lets nobody mount a file system of its own: %v %s", err, out)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "the disk was full")
}

// onSmallDisk is the process. It fills the disk, makes room, and goes on.
func onSmallDisk(ctx context.Context, folder string) error {
	if err := errors.Join(syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""), syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=1m")); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	config := eventstore.Config{DB: filepath.Join(folder, "store.db")}
	s, err := eventstore.Open(ctx, config)
	if err != nil {
		return err
	}
	ballast := filepath.Join(folder, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 200_000), 0o600); err != nil {
		return err
	}
	said, last, err := untilFull(ctx, s)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Remove(ballast), intact(ctx, s, said)); err != nil {
		return err
	}
	appended, err := s.Append(ctx, eventstore.StreamWrite{Stream: "a", Events: last})
	if err != nil || appended.Added != len(last) {
		return fmt.Errorf("with room again: %+v: %w", appended, err)
	}
	if err := errors.Join(intact(ctx, s, append(said, last...)), s.Close()); err != nil {
		return err
	}
	return readOnly(ctx, folder, config)
}

// untilFull appends until the disk is full, and gives what succeeded and what did not.
func untilFull(ctx context.Context, s *eventstore.Store) (said, last []event.Event, err error) {
	for range 10_000 {
		last = someEvents(3)
		switch _, err := s.Append(ctx, eventstore.StreamWrite{Stream: "a", Events: last}); {
		case err == nil:
			said = append(said, last...)
		case !strings.Contains(err.Error(), "disk full, and nothing of this was written"):
			return nil, nil, fmt.Errorf("after %d events: %w", len(said), err)
		default:
			fmt.Fprintln(os.Stdout, "the disk was full after", len(said), "events:", err)
			return said, last, nil
		}
	}
	return nil, nil, errors.New("the disk is never full")
}

// intact tells whether a store has exactly these events, and nothing is wrong with it.
func intact(ctx context.Context, s *eventstore.Store, want []event.Event) error {
	n := 0
	for r, err := range s.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return err
		}
		if n++; n > len(want) || r.ID != want[n-1].ID {
			return fmt.Errorf("position %d has an event that was not acknowledged", n)
		}
	}
	if n != len(want) {
		return fmt.Errorf("%d events are there, and %d were acknowledged", n, len(want))
	}
	var found []error
	_, err := s.Verify(ctx, func(f eventstore.Finding) { found = append(found, errors.New(f.String())) })
	return errors.Join(append(found, err)...)
}

// readOnly opens a store and makes one where nothing can be written.
func readOnly(ctx context.Context, folder string, config eventstore.Config) error {
	if err := syscall.Mount("", folder, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=1m"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	for _, db := range []string{config.DB, filepath.Join(folder, "new.db")} {
		s, err := eventstore.Open(ctx, eventstore.Config{DB: db})
		if err == nil {
			_, err = s.Append(ctx, eventstore.StreamWrite{Stream: "a", Events: someEvents(1)})
			err = errors.Join(err, s.Close())
		}
		if err == nil || !strings.Contains(err.Error(), "cannot be") {
			return fmt.Errorf("%s where nothing can be written: %w", db, err)
		}
		fmt.Fprintln(os.Stdout, err)
	}
	return nil
}
