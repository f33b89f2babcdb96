/* SPDX-License-Identifier: Apache-2.0
 * Names and texts of codes, the first cause of a failure, and the end of a process on a failed
 * check. */
#include "base/err.h"

#include "base/check.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void each_code_of_ours_has_its_name_and_text(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *name;
        const char *text;
    } rows[] = {
#define ROW(name, value, text) {name, #name, text},
        WEIR_ERROR_TABLE(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(weir__code_name(rows[i].code), rows[i].name);
        assert_string_equal(weir__code_text(rows[i].code), rows[i].text);
        /* Beyond every errno, and no value twice. */
        assert_true(rows[i].code <= -10001);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(rows[i].code, rows[j].code);
        }
    }
    /* Part of the ABI. */
    assert_int_equal(WEIR_EFAILED, -10001);
    assert_int_equal(WEIR_ENOLOG, -10014);
}

static void codes_of_the_system_have_theirs(void **state)
{
    (void)state;
    assert_string_equal(weir__code_name(-ENOSPC), "ENOSPC");
    assert_string_equal(weir__code_text(-ENOSPC), "No space left on device");
    assert_string_equal(weir__code_name(-EAGAIN), "EAGAIN");
    assert_string_equal(weir__code_name(0), "OK");
    assert_string_equal(weir__code_text(0), "success");
}

/* Never NULL, whatever comes in: the result goes straight into printf. */
static void unknown_codes_have_a_text_too(void **state)
{
    (void)state;
    static const int codes[] = {1, EIO, -4095, -4096, -10000, -20000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        assert_string_equal(weir__code_text(codes[i]), "unknown code");
        assert_string_equal(weir__code_name(codes[i]), "UNKNOWN");
    }
}

static void first_fault_is_kept(void **state)
{
    (void)state;
    struct weir__fault fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__fault_set(&fault, -EIO, "a.wal", 4096, 77, "write of %d bytes", 512),
                     -EIO);
    /* The caller goes on with its own code while the fault keeps the first cause. */
    assert_int_equal(weir__fault_set(&fault, -ENOSPC, "b.wal", 1, 2, "later"), -ENOSPC);
    assert_int_equal(fault.code, -EIO);
    assert_string_equal(fault.file, "a.wal");
    assert_string_equal(fault.text, "write of 512 bytes");
    assert_true(fault.offset == 4096 && fault.lsn == 77);
}

static void fault_may_be_absent_nameless_or_too_long(void **state)
{
    (void)state;
    assert_int_equal(weir__fault_set(NULL, -EIO, NULL, 0, 0, "nobody asks"), -EIO);

    char name[200];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    struct weir__fault fault = WEIR__FAULT_NONE;
    (void)weir__fault_set(&fault, WEIR_ECORRUPT, name, 0, 0, "%s%s", name, name);
    assert_int_equal(strlen(fault.file), sizeof fault.file - 1);
    assert_int_equal(strlen(fault.text), sizeof fault.text - 1);

    struct weir__fault nameless = WEIR__FAULT_NONE;
    (void)weir__fault_set(&nameless, -EIO, NULL, UINT64_MAX, UINT64_MAX, "x");
    assert_string_equal(nameless.file, "");
}

/* A child fails a check; the parent reads what it said and how it ended. */
static void failed_check_says_where_and_aborts(void **state)
{
    (void)state;
    int channel[2];
    assert_int_equal(pipe(channel), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(channel[1], STDERR_FILENO);
        const int two = 2;
        weir__check(two == 2);
        weir__check(two == 3);
        _exit(0);
    }
    (void)close(channel[1]);
    char said[512];
    size_t len = 0;
    ssize_t got;
    while (len < sizeof said - 1 &&
           (got = read(channel[0], said + len, sizeof said - 1 - len)) > 0) {
        len += (size_t)got;
    }
    said[len] = '\0';
    (void)close(channel[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(said, "weir: check failed: two == 3 at "));
    assert_non_null(strstr(said, "test_err.c:"));
    assert_int_equal(said[len - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_code_of_ours_has_its_name_and_text),
        cmocka_unit_test(codes_of_the_system_have_theirs),
        cmocka_unit_test(unknown_codes_have_a_text_too),
        cmocka_unit_test(first_fault_is_kept),
        cmocka_unit_test(fault_may_be_absent_nameless_or_too_long),
        cmocka_unit_test(failed_check_says_where_and_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
