/* SPDX-License-Identifier: Apache-2.0
 * The verbs of the command, each in a file of its name. argv[0] is the verb. Return: the status to
 * exit with. */
#ifndef WEIR_TOOL_VERBS_H
#define WEIR_TOOL_VERBS_H

int ingest_main(int argc, char **argv);
int cat_main(int argc, char **argv);
int dump_main(int argc, char **argv);
int verify_main(int argc, char **argv);
int explain_main(int argc, char **argv);
int salvage_main(int argc, char **argv);
int copy_main(int argc, char **argv);
int trim_main(int argc, char **argv);
int doctor_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int iobench_main(int argc, char **argv);

#endif
