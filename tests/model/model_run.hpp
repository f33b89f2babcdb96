/* SPDX-License-Identifier: Apache-2.0
 * Running a model: its verbs. Wants of the model: struct scenario with a name, scenarios[], now, threads, threads_of(), stopped, tally,
 * tally_print(), mark_sites(), and test<MODEL_THREADS> and test<MODEL_THREADS + 1>. */
struct null_stream : std::ostream { null_stream() : std::ostream(0) {} };

/* As rl::simulate: at random, or with the scheduler of search.hpp. */
template <typename T, typename scheduler> static bool execute(rl::test_params &params, bool history)
{
    rl::ostringstream state;
    rl::test_result_e result = rl::run_test<T, scheduler>(params, state, false);
    if (result != rl::test_result_success && history) {
        rl::ostringstream again;
        rl::iteration_t at = params.stop_iteration;
        params.initial_state = state.str();
        params.collect_history = true;
        rl::run_test<T, scheduler>(params, again, true);
        params.stop_iteration = at;
    }
    return result == rl::test_result_success;
}
template <int N> static bool execute_with(rl::test_params &params, bool history)
{
    return search.on ? execute<test<N>, searcher<N>>(params, history) : execute<test<N>, rl::random_scheduler<N>>(params, history);
}

/* "" or how it failed. At random, count times; or the search that `search` describes, to its end. */
static std::string run_one(const scenario *s, uint64_t count, bool history, double *seconds)
{
    rl::test_params params;
    static null_stream nothing;
    now = s;
    threads = threads_of(s);
    params.iteration_count = count;
    params.search_type = rl::sched_random; /* also where search.hpp schedules: as many older values as Relacy keeps */
    params.execution_depth_limit = 6000;
    params.output_stream = history ? (std::ostream *)&std::cout : &nothing;
    params.progress_stream = &nothing;
    params.collect_history = false; /* a failure is run again to collect it */
    search.over = 0;
    auto start = std::chrono::steady_clock::now();
    bool ok = threads == MODEL_THREADS ? execute_with<MODEL_THREADS>(params, history) : execute_with<MODEL_THREADS + 1>(params, history);
    *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    stopped = params.stop_iteration;
    if (ok) return "";
    return std::string(rl::test_result_str(params.test_result));
}

static const scenario *find(const char *name)
{
    for (auto &s : scenarios) {
        if (!strcmp(s.name, name)) return &s;
    }
    fprintf(stderr, "no scenario %s\n", name);
    exit(2);
}

static int weaker(const site &s, int out[2])
{
    bool load = !strncmp(s.op, "load", 4), store = !strncmp(s.op, "store", 5);
    switch (s.order) {
    case rl::mo_seq_cst: out[0] = load ? rl::mo_acquire : store ? rl::mo_release : rl::mo_acq_rel; return 1;
    case rl::mo_acq_rel: out[0] = rl::mo_acquire; out[1] = rl::mo_release; return 2;
    case rl::mo_acquire: case rl::mo_release: out[0] = rl::mo_relaxed; return 1;
    default: return 0;
    }
}

/* "file:function:word:op:n", blanks left out; n: the how-manieth such access of the function, in the order of the text. */
static std::string key_of(const site *s)
{
    auto base = [](const char *file) { return std::string(strrchr(file, '/') ? strrchr(file, '/') + 1 : file); };
    int n = 1;
    for (site *o = __start_model_sites; o < __stop_model_sites; o++) {
        n += o != s && base(o->file) == base(s->file) && !strcmp(o->func, s->func) && !strcmp(o->expr, s->expr) && !strcmp(o->op, s->op) && o->line < s->line;
    }
    std::string key = base(s->file) + ":" + s->func + ":" + s->expr + ":" + (strchr(s->op, ' ') ? strchr(s->op, ' ') + 1 : s->op) + ":" + std::to_string(n);
    std::string out;
    for (char c : key) {
        if (c != ' ') out += c;
    }
    return out;
}
static const char *const order_names[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};

/* run COUNT [SCENARIO...]      random executions of each
 * names                        of the scenarios
 * full [SCENARIO...]           every execution, those of the same order of steps that touch each other once (search.hpp)
 * plain [SCENARIO...]          the same without that reduction
 * walk P L [SCENARIO...]       every execution with at most P preemptions and L loads of an older value
 * trace [P L] SCENARIO         full or walk, with the history of the failure
 * show SCENARIO COUNT          random, with the history of the failure
 * weaken COUNT [SCENARIO...]   each atomic access one step weaker: which scenario fails. COUNT 0: every execution
 * sites                        the accesses whose order can be weakened: KEY ORDER WEAKER
 * weakened                     lines of stdin, KEY WEAKER COUNT SCENARIO...: the same for these; prints the line, then `: killed by SCENARIO at N, WHY` or `: alive` */
int main(int argc, char **argv)
{
    std::string verb = argc > 1 ? argv[1] : "";
    double seconds = 0;
    int bad = 0;
    mark_sites();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (verb == "names") {
        for (auto &s : scenarios) printf("%s\n", s.name);
        return 0;
    }
    if (verb == "run") {
        uint64_t count = strtoull(argv[2], NULL, 10);
        for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
            const scenario *s = &scenarios[i];
            bool wanted = argc == 3;
            for (int a = 3; a < argc; a++) wanted |= !strcmp(argv[a], s->name);
            if (!wanted) continue;
            memset(&tally, 0, sizeof tally);
            std::string why = run_one(s, count, false, &seconds);
            printf("%-13s %-22s at %llu in %.1f s; ", s->name, why.empty() ? "ok" : why.c_str(), (unsigned long long)stopped, seconds);
            tally_print();
            bad += !why.empty();
        }
        return bad != 0;
    }
    if (verb == "full" || verb == "plain" || verb == "walk" || verb == "trace") {
        search.on = true;
        search.full = verb != "walk" && !(verb == "trace" && argc > 4);
        search.plain = verb == "plain";
        search.stale = ~0u;
        int names = 2;
        if (!search.full) {
            search.preemptions = (unsigned)atoi(argv[2]);
            search.stale = (unsigned)atoi(argv[3]);
            names = 4;
        }
        for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
            const scenario *s = &scenarios[i];
            bool wanted = argc == names;
            for (int a = names; a < argc; a++) wanted |= !strcmp(argv[a], s->name);
            if (!wanted) continue;
            std::string why = run_one(s, UINT64_MAX, verb == "trace", &seconds);
            printf("%-18s ", s->name);
            if (search.full) printf("every execution");
            else printf("at most %u preemptions, %u older values", search.preemptions, search.stale);
            printf(": %s, %llu", why.empty() ? "ok" : why.c_str(), (unsigned long long)stopped);
            if (search.over) printf(" (%llu cut off)", (unsigned long long)search.over);
            printf(" in %.1f s\n", seconds);
            bad += !why.empty();
        }
        return bad != 0;
    }
    if (verb == "show") {
        run_one(find(argv[2]), strtoull(argv[3], NULL, 10), true, &seconds);
        return 0;
    }
    if (verb == "sites") {
        for (site *s = __start_model_sites; s < __stop_model_sites; s++) {
            int to[2];
            int n = !strcmp(s->expr, "model") ? 0 : weaker(*s, to);
            for (int k = 0; k < n; k++) printf("%s %s %s\n", key_of(s).c_str(), s->name, order_names[to[k]]);
        }
        return 0;
    }
    if (verb == "weakened") {
        char line[1000];
        while (fgets(line, sizeof line, stdin)) {
            line[strcspn(line, "\n")] = 0;
            std::istringstream in(line);
            std::string key, order, name, why, by;
            uint64_t count = 0;
            in >> key >> order >> count;
            search.on = search.full = count == 0;
            search.stale = ~0u;
            site *which = 0;
            int to = -1;
            for (site *s = __start_model_sites; s < __stop_model_sites; s++) {
                if (key_of(s) == key) which = s;
            }
            for (int i = 0; i < 6; i++) {
                if (order == order_names[i]) to = i;
            }
            if (!which || to < 0) {
                printf("%s: no such access\n", line);
                bad = 1;
                continue;
            }
            static const int orders[] = {rl::mo_relaxed, rl::mo_consume, rl::mo_acquire, rl::mo_release, rl::mo_acq_rel, rl::mo_seq_cst};
            which->now = orders[to];
            while (why.empty() && in >> name) {
                by = name;
                why = run_one(find(name.c_str()), count ? count : UINT64_MAX, false, &seconds);
            }
            which->now = which->order;
            if (why.empty()) printf("%s: alive\n", line);
            else printf("%s: killed by %s at %llu, %s\n", line, by.c_str(), (unsigned long long)stopped, why.c_str());
        }
        return bad;
    }
    if (verb == "weaken") {
        uint64_t count = strtoull(argv[2], NULL, 10);
        int killed = 0, alive = 0;
        search.on = search.full = count == 0;
        search.stale = ~0u;
        for (site *s = __start_model_sites; s < __stop_model_sites; s++) {
            int to[2];
            int n = !strcmp(s->expr, "model") ? 0 : weaker(*s, to);
            for (int k = 0; k < n; k++) {
                s->now = to[k];
                std::string why;
                const char *by = "";
                for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios && why.empty(); i++) {
                    bool wanted = argc == 3;
                    for (int a = 3; a < argc; a++) wanted |= !strcmp(argv[a], scenarios[i].name);
                    if (!wanted) continue;
                    why = run_one(&scenarios[i], count, false, &seconds);
                    by = scenarios[i].name;
                }
                s->now = s->order;
                (why.empty() ? alive : killed)++;
                printf("%-8s %s:%d %s %s %s %s -> %s%s%s%s\n", why.empty() ? "SURVIVED" : "killed", strrchr(s->file, '/') + 1, s->line, s->func,
                       s->expr, s->op, s->name, order_names[to[k]], why.empty() ? "" : ": ", why.c_str(),
                       why.empty() ? "" : (std::string(", ") + by + " at " + std::to_string(stopped)).c_str());
            }
        }
        printf("%d killed, %d survived\n", killed, alive);
        return 0;
    }
    fprintf(stderr, "usage: MODEL names | run COUNT [SCENARIO...] | full | plain [SCENARIO...] | walk P L [SCENARIO...] | trace [P L] SCENARIO | show SCENARIO COUNT | weaken COUNT [SCENARIO...] | sites | weakened\n");
    return 2;
}
