# Folders that become the only layer of an image: files of this machine, with the libraries that they need and nothing else.
# shellcheck shell=bash

# rootfs_begin FOLDER: an empty one, with the links that programs are looked for by.
rootfs_begin() {
  local root=$1
  mkdir -p "$root"/{etc/ssl/certs,usr/bin,usr/lib,usr/lib64,tmp}
  ln -s usr/bin "$root/bin"
  ln -s usr/lib "$root/lib"
  ln -s usr/lib64 "$root/lib64"
  chmod 1777 "$root/tmp"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
}

# rootfs_copy FOLDER FILE…: each to where it is here, links followed.
rootfs_copy() {
  local root=$1 file folder
  shift
  for file in "$@"; do
    folder=$root$(realpath -- "$(dirname -- "$file")")
    mkdir -p "$folder"
    cp -L -- "$file" "$folder/${file##*/}"
  done
}

# rootfs_libraries FOLDER PROGRAM…: what the loader takes for them, and the loader.
rootfs_libraries() {
  local root=$1 listed
  shift
  listed=$(ldd -- "$@" | awk '$2 == "=>" && $3 ~ "^/" {print $3} $1 ~ "^/.*ld-linux" {print $1}' | sort -u)
  # shellcheck disable=SC2086  # one word for each library
  rootfs_copy "$root" $listed
}

# rootfs_user FOLDER NAME ID: the one user beside root, with a home that nobody writes to.
rootfs_user() {
  printf 'root:x:0:0:root:/:/sbin/nologin\n%s:x:%s:%s::/:/sbin/nologin\n' "$2" "$3" "$3" >"$1/etc/passwd"
  printf 'root:x:0:\n%s:x:%s:\n' "$2" "$3" >"$1/etc/group"
}

# rootfs_layer FOLDER FILE: as a tar that is the same for the same content.
rootfs_layer() {
  tar --create --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner --format=posix \
    --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --directory "$1" --file "$2" .
}
