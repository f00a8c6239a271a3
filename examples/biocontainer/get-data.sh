#!/usr/bin/env bash
# Fetches the genome of phage lambda and 10,000 read pairs from the Debian package bowtie2-examples, unless this was done
# before. Splits the reads into 24 pieces and indexes the genome with bwa. The link data/ next to this script points to the
# files.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
pairs=417 # per piece

make_data() {
  "$here/../from-debian.sh" bowtie2-examples
  mkdir genome reads
  local from=usr/share/doc/bowtie2/examples
  gzip -dc $from/reference/lambda_virus.fa.gz >genome/lambda.fa
  for mate in 1 2; do
    gzip -dc $from/reads/reads_$mate.fq.gz | awk -v lines=$((4 * pairs)) -v mate=$mate '
      NR % lines == 1 { close(file); file = sprintf("reads/lambda_%02d_%d.fq", int(NR / lines), mate) }
      { print > file }'
  done
  gzip -n reads/*.fq
  rm -r usr bin
  PATH="$("$here/get-program.sh"):$PATH" bwa index genome/lambda.fa
}

if [[ ${1:-} == make ]]; then
  make_data
else
  folder=$(python3 "$here/../once.py" biocontainer/data "$here/get-data.sh" make)
  ln -sfn "$folder" "$here/data"
fi
