package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// Of the jobs, every eighth is large.
const workersJobs, workersSmall, workersLarge = 64, 10 * time.Millisecond, 100 * time.Millisecond

// workers: a queue shares its jobs among workers, and how many it may hand out ahead decides how well.
func workers() stage.Scenario {
	return stage.Scenario{
		Name:  "workers",
		Title: "One to eight workers share a queue, some jobs are large, and one worker is killed",
		Lesson: "Workers that take their jobs from one queue share them: each job goes to one worker, so more workers get more done. " +
			"A broker that may send each worker many jobs ahead (the prefetch) deals them out like cards, blind to their size, and one worker may sit on all the large ones while the others idle. " +
			"With a prefetch of 1 each worker gets a job when it has done the last one; and what a worker had in hand when it died goes to others in any case.",
		Broken: "the broker may send each worker 100 jobs ahead.",
		Fixed:  "the same jobs and workers, one job at a time (--prefetch 1).",
		Play:   playWorkers,
		Figures: []stage.Figure{
			{Key: "rate1", Label: "jobs done with 1 worker", Unit: "/s"},
			{Key: "rate2", Label: "jobs done with 2 workers", Unit: "/s"},
			{Key: "rate4", Label: "jobs done with 4 workers", Unit: "/s"},
			{Key: "rate8", Label: "jobs done with 8 workers", Unit: "/s"},
			{Key: "time", Label: "8 workers: time until the last of 64 jobs is done", Unit: "ms"},
			{Key: "most", Label: "8 workers: the busiest one's share of the work", Unit: "%"},
			{Key: "least", Label: "8 workers: the idlest one's share of the work", Unit: "%"},
			{Key: "cut", Label: "a worker is killed: jobs cut off in the middle"},
			{Key: "missing", Label: "jobs, of all 320, that were never done"},
		},
		Claims: []stage.Claim{
			{Text: "Broken: one of eight workers has more than 40 % of the work, where an eighth (13 %) would be fair.", By: []string{"most"}, Holds: func(was, _ stage.Figures) bool { return was.Of("most") > 40 }},
			{Text: "Fixed: no worker has more than a third of it.", By: []string{"most"}, Holds: func(_, now stage.Figures) bool { return now.Of("most") < 34 }},
			{Text: "Fixed: eight workers are done in less than three quarters of the time that eight took in Broken.", By: []string{"time"}, Holds: func(was, now stage.Figures) bool { return now.Of("time") < was.Of("time")*3/4 }},
			{Text: "Fixed: eight workers do more than twice as many jobs a second as one.", By: []string{"rate1", "rate8"}, Holds: func(_, now stage.Figures) bool { return now.Of("rate8") > 2*now.Of("rate1") }},
			{Text: "Both: the job that was cut off is done by another worker, and none is missing.", By: []string{"cut", "missing"}, Holds: func(was, now stage.Figures) bool {
				return was.Of("cut")*now.Of("cut") > 0 && was.Of("missing")+now.Of("missing") == 0
			}},
		},
		Try: []string{
			"evdemo work --queue payments --latency 200ms --prefetch 1 --name alice    # and in another terminal --name bob",
			"evdemo publish --queue payments --count 100    # press Ctrl-C in one of the two, and the other does the rest",
		},
	}
}

// workersCrew is who works, and what they do.
type workersCrew struct {
	*stage.Stage
	processes map[string]*stage.Process
	kill      atomic.Bool // the worker of the next large job will be killed in the middle of it
	victim    atomic.Pointer[stage.Process]
	cut       atomic.Int64 // jobs whose worker died in the middle

	mu   sync.Mutex
	work map[string]time.Duration // that each has done in this round
}

func playWorkers(ctx context.Context, s *stage.Stage) error {
	c := &workersCrew{Stage: s, processes: map[string]*stage.Process{}, work: map[string]time.Duration{}}
	s.Ledger("jobs").Expect("workers")
	endpoint, err := s.Endpoint(ctx, c.serve)
	if err = errors.Join(err, s.Topology(ctx, topology.Spec{Queues: map[string]topology.Queue{"jobs": {}}})); err != nil {
		return err
	}
	prefetch := map[stage.Mode]string{stage.Broken: "100", stage.Fixed: "1"}[s.Mode]
	s.Say("1, 2, 4, then 8 programs (evdemo work --prefetch %s) get %d jobs each time. Every eighth job is large and takes %v, the others take %v.", prefetch, workersJobs, workersLarge, workersSmall)
	for count := 1; count <= 8; count *= 2 {
		for len(c.processes) < count {
			name := fmt.Sprintf("worker-%d", len(c.processes)+1)
			c.processes[name], err = s.Start(ctx, name, nil, "work", "--queue", s.Name("jobs"), "--http", endpoint,
				"--http-header", "X-Worker: "+name, "--prefetch", prefetch, "--no-declare")
			if err != nil {
				return err
			}
		}
		clear(c.work)
		began := time.Now()
		if err := c.play(ctx); err != nil {
			return err
		}
		s.Measure(fmt.Sprintf("rate%d", count), workersJobs/time.Since(began).Seconds())
		s.Measure("time", stage.Milliseconds(time.Since(began))) // the last one stays
	}
	shares, total := slices.Sorted(maps.Values(c.work)), workersJobs/8*(workersLarge+7*workersSmall)
	s.Measure("least", 100*float64(shares[0]*time.Duration(len(shares)/8))/float64(total)) // 0 where one of them has done nothing
	s.Measure("most", 100*float64(shares[len(shares)-1])/float64(total))
	s.Say("Another %d jobs, and one of the 8 programs is killed with SIGKILL in the middle of a large one.", workersJobs)
	c.kill.Store(true)
	err = errors.Join(c.play(ctx), s.StopAll())
	s.Measure("cut", float64(c.cut.Load()))
	s.Count("missing", s.Ledger("jobs").Account().Consumers[0].Missing)
	return err
}

// play has all jobs done. The worker that is to be killed is killed when all are handed out.
func (c *workersCrew) play(ctx context.Context) error {
	jobs, book := made(c.Stage, workersJobs), c.Ledger("jobs")
	for i := 0; i < len(jobs); i += 8 {
		jobs[i].Subject = "large"
	}
	want := book.Attempts() + len(jobs)
	if err := c.Publish(ctx, book, publisher.ToQueue(c.Name("jobs")), 0, jobs...); err != nil {
		return err
	}
	return c.Await(ctx, "that all jobs are done", time.Minute, func() bool {
		if victim := c.victim.Load(); victim != nil {
			victim.Kill()
		}
		n, _ := book.Done("workers")
		return n >= want
	})
}

// serve does a job.
func (c *workersCrew) serve(_ http.ResponseWriter, r *http.Request, e event.Event) {
	name, takes := r.Header.Get("X-Worker"), workersSmall
	if e.Subject == "large" {
		takes = workersLarge
		if c.kill.CompareAndSwap(true, false) {
			takes = time.Hour
			c.victim.Store(c.processes[name])
		}
	}
	if c.Pause(r.Context(), takes) != nil {
		c.cut.Add(1)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work[name] += takes
	c.Ledger("jobs").Effect("workers", name, e.ID)
}
