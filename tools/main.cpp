#include "tools/cli.h"

int main(int argc, char** argv) { return stamp::run_stamp(argc, argv); }
