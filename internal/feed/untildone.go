package feed

import (
	"context"
	"io"
)

// UntilDone reads from r and fails with the cause of ctx's end as soon as ctx ends, also while a
// read waits, as one of a pipe or a terminal may for ever. Such a read is left behind: it ends
// with its input or with the process, and what it gives is lost.
func UntilDone(ctx context.Context, r io.Reader) io.Reader {
	return &untilDone{ctx: ctx, r: r, results: make(chan int, 1), buf: make([]byte, 64<<10)}
}

type untilDone struct {
	ctx     context.Context // io.Reader has no room for it
	r       io.Reader
	results chan int // how many bytes of buf a read has filled
	buf     []byte
	have    []byte // read and not yet given
	err     error  // what follows it
}

// Read gives what is there, and waits only where nothing is.
func (u *untilDone) Read(p []byte) (int, error) {
	for len(u.have) == 0 {
		if u.err == nil {
			u.err = context.Cause(u.ctx)
		}
		if u.err != nil {
			return 0, u.err
		}
		u.wait()
	}
	n := copy(p, u.have)
	u.have = u.have[n:]
	return n, nil
}

func (u *untilDone) wait() {
	var err error
	go func() { // ends with the read
		var n int
		n, err = u.r.Read(u.buf)
		u.results <- n
	}()
	select {
	case n := <-u.results:
		u.have, u.err = u.buf[:n], err
	case <-u.ctx.Done():
	}
}
