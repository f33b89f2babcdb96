/* SPDX-License-Identifier: Apache-2.0
 * Searches that end: a scheduler for Relacy which walks the tree of an execution's choices to its end.
 *
 * Full: every interleaving, and every older value that a load may return. Interleavings that differ only in the order of steps that have nothing to
 * do with each other are walked once (sleep sets): a step is one atomic access, futex call or ring call and the thread's own work up to the next; two
 * steps are independent unless they are accesses of one word of which one writes. An execution in which only steps are left that were walked
 * before is run to its end without further choices and counted as `over`. Plain fields need no steps: Relacy finds a race by happens-before,
 * whatever order the two sides ran in.
 * Bounded: every execution with at most so many preemptions and so many loads that return an older value; a switch where a thread sleeps or ends
 * is free. No reduction.
 *
 * Every step announces itself before it lets others run. What touches state that others of the model look at, and is no access of the text,
 * announces that, too. */
struct next_step {
    const void *at; /* 0: only the thread's own work */
    bool writes, unknown;
};
static next_step next_steps[8];
static struct {
    bool on, full;
    unsigned preemptions, stale; /* at most */
    bool plain;                  /* full without the reduction, to compare */
    uint64_t over;
} search;

static void step(const void *at, bool writes)
{
    next_steps[rl::thread_index()] = next_step{at, writes, false};
}
static bool dependent(const next_step &a, const next_step &b)
{
    if (a.unknown || b.unknown) return true;
    return a.at && a.at == b.at && (a.writes || b.writes);
}

template <rl::thread_id_t N> class searcher : public rl::scheduler<searcher<N>, rl::scheduler_thread_info, N> {
public:
    typedef rl::scheduler<searcher<N>, rl::scheduler_thread_info, N> base;
    typedef typename base::thread_info_t info;
    typedef typename base::shared_context_t shared_context_t;
    struct task_t {};

    searcher(rl::test_params &params, shared_context_t &ctx, rl::thread_id_t dynamic) : base(params, ctx, dynamic), depth(0) {}

    rl::thread_id_t iteration_begin_impl()
    {
        depth = 0;
        asleep = 0;
        idle = false;
        turn = 0;
        preemptions = search.preemptions;
        stale = search.stale;
        for (auto &s : next_steps) s = next_step{0, false, false};
        if (search.full) return this->running_threads[0];
        return this->running_threads[choose(this->running_threads_count)];
    }
    bool iteration_end_impl()
    {
        search.over += idle;
        while (!tree.empty()) {
            node &n = tree.back();
            if (++n.index < n.count) return false;
            tree.pop_back();
        }
        return true;
    }
    rl::thread_id_t schedule_impl(rl::unpark_reason &reason, unsigned yield)
    {
        info &now = *this->thread_;
        const bool running = now.state_ == rl::thread_state_running;
        rl::thread_id_t can[2 * N];
        unsigned count = 0;
        reason = rl::unpark_reason_normal;
        if (idle) {
            for (unsigned i = 0; i < N; i++) {
                info &t = this->threads_[turn++ % N];
                if (t.state_ == rl::thread_state_running) return t.index_;
            }
        }
        if (running && !search.full && (preemptions == 0 || yield) ) {
            /* Only a yield lets others run, and it does if there are any. */
            if (!yield || this->running_threads_count == 1) return now.index_;
        }
        if (search.full && !search.plain && !idle) {
            for (unsigned i = 0; i < this->running_threads_count; i++) {
                rl::thread_id_t t = this->running_threads[i];
                if (!next_steps[t].at && !next_steps[t].unknown) return t; /* nobody can see it: now is as good as later */
            }
        }
        if (running && !yield && !(asleep >> now.index_ & 1)) can[count++] = now.index_;
        for (rl::thread_id_t t = 0; t < N; t++) {
            info &other = this->threads_[t];
            if (other.state_ == rl::thread_state_running && (other.index_ != now.index_ || (yield && search.full)) && !(asleep >> t & 1)) can[count++] = t;
        }
        for (rl::thread_id_t i = 0; i < this->timed_thread_count_ && !idle; i++) {
            info &other = *this->timed_threads_[i];
            if (other.block_count_ == 1 && !(asleep >> other.index_ & 1)) can[count++] = other.index_;
        }
        if (count == 0) {
            /* Only what was walked from here before. */
            idle = true;
            return schedule_impl(reason, yield);
        }
        unsigned pick = choose(count);
        rl::thread_id_t t = can[pick];
        if (search.full && !search.plain) {
            for (unsigned i = 0; i < pick; i++) asleep |= 1u << can[i];
            for (rl::thread_id_t i = 0; i < N; i++) {
                if ((asleep >> i & 1) && dependent(next_steps[i], next_steps[t])) asleep &= ~(1u << i);
            }
        }
        if (running && t != now.index_ && !yield && !search.full) preemptions--;
        if (this->threads_[t].state_ != rl::thread_state_running) {
            this->unpark_thread(t);
            reason = rl::unpark_reason_timeout;
        }
        return t;
    }
    unsigned rand_impl(unsigned limit, rl::sched_type type)
    {
        if (idle) return 0;
        if (type == rl::sched_type_atomic_load) {
            if (stale == 0) return 0;
            unsigned older = choose(limit);
            stale -= older;
            return older;
        }
        return choose(limit);
    }
    void thread_finished_impl() {}
    void purge_blocked_threads() {}
    void on_thread_block(rl::thread_id_t, bool) {}
    rl::iteration_t iteration_count_impl() { return this->iter_ + 1; }
    void get_state_impl(std::ostream &out)
    {
        out << tree.size() << " ";
        for (auto &n : tree) out << n.count << " " << n.index << " ";
    }
    void set_state_impl(std::istream &in)
    {
        size_t size = 0;
        in >> size;
        for (size_t i = 0; i < size; i++) {
            node n;
            in >> n.count >> n.index;
            tree.push_back(n);
        }
    }

private:
    struct node { unsigned count, index; };
    typename rl::vector<node>::type tree;
    size_t depth;
    unsigned asleep;
    bool idle;
    unsigned turn;
    unsigned preemptions, stale;

    unsigned choose(unsigned count)
    {
        if (count == 1) return 0;
        if (depth == tree.size()) tree.push_back(node{count, 0});
        node &n = tree[depth++];
        if (n.count != count) {
            fprintf(stderr, "model: an execution did not repeat itself\n");
            abort();
        }
        return n.index;
    }
};
