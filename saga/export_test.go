package saga

import "context"

// Expire has the step of an instance fail whose deadline has passed, at once.
func (c *Coordinator) Expire(ctx context.Context, id string) error { return c.expire(ctx, id) }

// ExpireAll is one tick of Run.
func (c *Coordinator) ExpireAll(ctx context.Context) error { return c.expireAll(ctx) }

// KnowOnly has the coordinator keep the states of so many instances.
func (c *Coordinator) KnowOnly(n int) { c.kernel.known.Resize(n) }
