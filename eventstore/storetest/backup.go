package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
)

func backupChecks() []Check {
	return []Check{
		{"a backup is a store with an equal log", true, backupEqual},
		{"a backup is of one moment while others write", true, backupBusy},
		{"a backup replaces nothing", false, backupRefuses},
	}
}

// copied opens a backup, and fails the check unless it is a sound store.
func (c *C) copied(target string) (*eventstore.Store, []eventstore.Recorded) {
	c.Helper()
	s := c.Open(eventstore.Config{DB: target, Existing: true})
	_, found := c.verify(s)
	c.equal("found in a backup", found, []string(nil))
	all, err := collect(s.Read(c.Ctx, eventstore.Query{}))
	c.no(err)
	return s, all
}

// backupEqual copies the store to a file, that to a database of the store's kind, and that to a file again.
func backupEqual(c *C) {
	c.mixed(150)
	c.append(to("binary", newEvent("binary", []byte{0, 255, 0})))
	c.load("one", eventstore.SnapshotEvery(1))
	c.no(c.A.Project(c.Ctx, readModel()))
	h := c.lead(c.A, "reader", patientLease)
	c.no(h.lease.SaveNow(c.Ctx, eventstore.Checkpoint{Version: 3, Position: 100}))
	log := c.log()
	from := c.A
	folder := c.TempDir()
	for i, target := range []string{filepath.Join(folder, "one.db"), c.Fresh(c.TB), filepath.Join(folder, "two ?#%.db")} {
		n, err := from.Backup(c.Ctx, target)
		c.no(err)
		c.equal("events that it tells of", n, int64(len(log)))
		s, all := c.copied(target)
		c.equal(fmt.Sprint("the log of backup ", i), all, log)
		saved, err := s.Checkpoint(c.Ctx, "reader")
		c.no(err)
		c.equal("a reader's checkpoint", saved, eventstore.Checkpoint{Version: 3, Position: 100})
		saved, err = s.Checkpoint(c.Ctx, "projection/m")
		c.no(err)
		want := eventstore.Checkpoint{Position: int64(len(log))}
		if c.onPostgres() { // the read model is not copied, so it begins anew
			want = eventstore.Checkpoint{}
		}
		c.equal("a projection's checkpoint", saved, want)
		from = s
	}
	c.folderHas(folder, "one.db", "two ?#%.db")
	got, err := from.Append(c.Ctx, at("binary", 1, events(1)...), to("binary", log[150].Event))
	c.no(err)
	c.equal("positions of an append to the copy", got.Positions, []int64{152, 151})
	c.equal("head of the original", c.head(), int64(151))
}

// folderHas fails the check unless nothing else is in a folder, apart from the logs of files that are open.
func (c *C) folderHas(folder string, names ...string) {
	c.Helper()
	entries, err := os.ReadDir(folder)
	c.no(err)
	for _, e := range entries {
		known := slices.ContainsFunc(names, func(n string) bool { return e.Name() == n || e.Name() == n+"-wal" || e.Name() == n+"-shm" })
		c.holds(known, "%s was left behind", e.Name())
	}
}

func backupBusy(c *C) {
	c.fill("x", 1)
	ctx, stop := context.WithCancel(c.Ctx)
	defer stop()
	var crowd errgroup.Group
	for w := range 8 {
		crowd.Go(func() error { return c.appendPairs(ctx, w) })
	}
	folder := c.TempDir()
	for i := range 4 {
		before := c.head()
		target := filepath.Join(folder, fmt.Sprint(i, ".db"))
		n, err := c.store(i).Backup(c.Ctx, target)
		c.no(err)
		_, all := c.copied(target)
		c.equal("events", int64(len(all)), n)
		c.holds(n >= before && n%2 == 1, "a backup has %d events: there were %d, and pairs are never apart", n, before)
	}
	stop()
	c.no(crowd.Wait())
	log := c.log()
	_, all := c.copied(filepath.Join(folder, "3.db"))
	c.equal("the copied part of the log", all, log[:len(all)])
	c.folderHas(folder, "0.db", "1.db", "2.db", "3.db")
}

// appendPairs appends until ctx ends; the append that is under way then is finished.
func (c *C) appendPairs(ctx context.Context, w int) error {
	for ctx.Err() == nil {
		pair := []eventstore.StreamWrite{to("x", newEvent("pair", 1)), to(fmt.Sprint("y-", w), newEvent("pair", 2))}
		if _, err := c.store(w).Append(context.WithoutCancel(ctx), pair...); err != nil {
			return err
		}
		rest(ctx, step)
	}
	return nil
}

func backupRefuses(c *C) {
	c.fill("a", 3)
	folder := c.TempDir()
	there := filepath.Join(folder, "there.db")
	c.no(os.WriteFile(there, []byte("mine"), 0o600))
	_, err := c.A.Backup(c.Ctx, there)
	c.is("a backup to a file that is there", err, eventstore.ErrNotEmpty)
	content, err := os.ReadFile(there)
	c.no(err)
	c.equal("the file", string(content), "mine")
	_, err = c.A.Backup(c.Ctx, c.DB)
	c.is("a backup to itself", err, eventstore.ErrNotEmpty)

	other := New(c.TB, c.Fresh)
	other.fill("b", 1)
	_, err = c.A.Backup(c.Ctx, other.DB)
	c.is("a backup to another store", err, eventstore.ErrNotEmpty)
	c.equal("events of that", len(other.log()), 1)
	_, err = c.A.Backup(c.Ctx, filepath.Join(folder, "nowhere", "a.db"))
	c.holds(err != nil, "a backup to a folder that does not exist")
	ctx, cancel := context.WithCancel(c.Ctx)
	cancel()
	_, err = c.A.Backup(ctx, filepath.Join(folder, "cancelled.db"))
	c.is("a backup whose ctx has ended", err, context.Canceled)
	c.folderHas(folder, "there.db")
}
