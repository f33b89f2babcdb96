/* SPDX-License-Identifier: Apache-2.0
 * The verbs of weir-stress. Each has a file of its name; argv[0] is the verb. Return: exit
 * status. */
#ifndef WEIR_STRESS_VERBS_H
#define WEIR_STRESS_VERBS_H

int kill_main(int argc, char **argv);
int powercut_main(int argc, char **argv);
int sim_main(int argc, char **argv);
int seccomp_main(int argc, char **argv);
int perf_main(int argc, char **argv);
int append_main(int argc, char **argv);
int signals_main(int argc, char **argv);
int freeze_main(int argc, char **argv);
int fullfs_main(int argc, char **argv);
int rlimits_main(int argc, char **argv);
int soak_main(int argc, char **argv);
int logwrites_main(int argc, char **argv);
int bitrot_main(int argc, char **argv);
/* Started by kill and powercut, not by people. */
int append_child_main(int argc, char **argv);
int follow_child_main(int argc, char **argv);

#endif
