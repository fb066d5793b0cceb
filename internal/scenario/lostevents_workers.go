package scenario

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/naive"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
)

// killWorker kills a worker in mid-work, and has another one do what is left.
func killWorker(ctx context.Context, s *stage.Stage, mark string) error {
	const jobs, done = 200, 40
	book, queue := s.Ledger(lostJobs), s.Name(lostJobs)
	book.Expect("reader", "killed", "reader")
	s.Say("A worker has done %d of %d jobs when it is killed with SIGKILL. Another one takes over.", done, jobs)
	err := s.Publish(ctx, book, publisher.ToQueue(queue), 0, made(s, jobs)...)
	if err != nil {
		return err
	}
	var worker *stage.Process
	if effect := func(line []byte) { book.Effect("reader", "killed", stage.ID(line)) }; s.Fixed() {
		worker, err = s.Start(ctx, "worker", effect, "work", "--queue", queue, "--no-declare", "--latency", "3ms", "-o", "json")
	} else {
		worker, err = s.StartPart(ctx, "worker", "auto-ack", effect, map[string]string{"queue": queue})
	}
	if err != nil {
		return err
	}
	if err := s.Await(ctx, "that the worker has begun", time.Minute, func() bool { n, _ := book.Done("reader"); return n >= done }); err != nil {
		return err
	}
	if err := worker.Kill(); err != nil {
		return err
	}
	_, err = drainLost(ctx, s, lostJobs, mark) // which is not in this queue
	return err
}

// drainLost works off a queue, counts what is missing, and tells whether the mark came, an event that is not on the books.
func drainLost(ctx context.Context, s *stage.Stage, queue, mark string) (marked bool, err error) {
	book, came := s.Ledger(queue), new(atomic.Bool)
	worker, err := s.Start(ctx, queue, func(line []byte) {
		if id := stage.ID(line); id == mark {
			came.Store(true)
		} else {
			book.Effect("reader", "reader", id)
		}
	}, "work", "--queue", s.Name(queue), "--no-declare", "-o", "json")
	if err != nil {
		return false, err
	}
	if err := s.Settle(ctx, still(s), book.Attempts(), func() int { n, _ := book.Done("reader"); return n }); err != nil {
		return false, err
	}
	s.Count(queue, book.Account().Consumers[0].Missing)
	return came.Load(), worker.Stop()
}

// autoAckPart is a worker whose events are acknowledged before it has begun.
func autoAckPart(ctx context.Context, p *stage.Player) error {
	return naive.Consumer{URL: p.URL, Queue: p.Args["queue"], AutoAck: true, Ready: p.Ready}.Run(ctx, func(e event.Event) error {
		work := time.NewTimer(3 * time.Millisecond)
		defer work.Stop()
		<-work.C
		return p.Print(e)
	})
}
