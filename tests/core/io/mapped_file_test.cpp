#include "core/io/mapped_file.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>

#include "core/io/checkpoint.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {
using testing::safetensors;
using testing::ScratchFolder;

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// Bytes of files below `folder` that this process has mapped and touched.
std::size_t mapped_bytes(const std::filesystem::path& folder) {
  std::ifstream in("/proc/self/smaps");
  std::size_t kib = 0;
  bool ours = false;
  for (std::string line; std::getline(in, line);) {
    if (line.find('-') < line.find(' ')) {
      ours = line.find(folder.string()) != std::string::npos;
    } else if (ours && line.starts_with("Rss:")) {
      kib += std::stoull(line.substr(4));
    }
  }
  return kib << 10U;
}

/// Tensors of 128 bytes, each followed by one of `gap` bytes.
void write_small_between(const ScratchFolder& folder, const std::string& file, int count,
                         std::size_t gap) {
  std::string header = "{";
  std::size_t at = 0;
  for (int i = 0; i < count; ++i) {
    for (const auto& [kind, size] : {std::pair{"small", std::size_t{128}}, {"wide", gap}}) {
      header += fmt::format(R"({}"{}.{}.{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})",
                            at == 0 ? "" : ",", file, kind, i, size, at, at + size);
      at += size;
    }
  }
  folder.write(file + ".safetensors", safetensors(header + "}", at));
}

/// Reads what `name` names, whether it is what was written, and gives it back.
bool read(const Checkpoint& checkpoint, const std::string& name) {
  const StoredTensor& stored = checkpoint.tensors().at(name);
  const auto bytes = checkpoint.bytes(stored);
  bool right = true;
  for (std::size_t i = 0; i < bytes.size(); i += 64) {
    const std::size_t at = stored.begin - checkpoint.data_begin(stored.file) + i;
    right = right && bytes[i] == static_cast<std::byte>(at & 0xffU);
  }
  checkpoint.release(bytes);
  return right;
}

TEST(Mapping, SmallTensorsFarApartDoNotStayMapped) {
  const ScratchFolder folder;
  write_small_between(folder, "a", 256, 128 << 10);
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  for (int i = 0; i < 256; ++i) {
    EXPECT_TRUE(read(*checkpoint, fmt::format("a.small.{}", i)));
  }
  EXPECT_LE(mapped_bytes(folder.path()), 2 * kMiB);  // of 32: the last place
}

TEST(Mapping, SmallTensorsOfManyFilesDoNotStayMappedWhenOthersAreRead) {
  const ScratchFolder folder;
  for (int i = 0; i < 40; ++i) {
    write_small_between(folder, fmt::format("f{}", i), 2, 256 << 10);
  }
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  for (int i = 0; i < 40; ++i) {
    EXPECT_TRUE(read(*checkpoint, fmt::format("f{}.wide.1", i)));
    EXPECT_TRUE(read(*checkpoint, fmt::format("f{}.small.1", i)));
  }
  EXPECT_LE(mapped_bytes(folder.path()), 2 * kMiB);  // of 20
}

TEST(Mapping, TensorsThatOneFaultMapsDoNotStayMapped) {
  const ScratchFolder folder;
  write_small_between(folder, "a", 160, 200 << 10);
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  for (int i = 159; i >= 0; --i) {
    EXPECT_TRUE(read(*checkpoint, fmt::format("a.wide.{}", i)));
  }
  EXPECT_LE(mapped_bytes(folder.path()), 2 * kMiB);  // of 32
}

TEST(Mapping, ManySmallTensorsSideBySideAreMappedOnce) {
  const ScratchFolder folder;
  write_small_between(folder, "a", 20'000, 128);
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  rusage before{};
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &before), 0);
  for (int i = 0; i < 20'000; ++i) {
    EXPECT_TRUE(read(*checkpoint, fmt::format("a.small.{}", i)));
  }
  rusage after{};
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &after), 0);
  // 5 MB are 1250 pages, which even one fault each maps once.
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 20'000 / 10);
}

TEST(Mapping, WhatWasGivenBackIsReadAgain) {
  const ScratchFolder folder;
  write_small_between(folder, "a", 4, 256 << 10);
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  for (const char* name : {"a.small.0", "a.small.1", "a.wide.2", "a.small.0", "a.small.3"}) {
    EXPECT_TRUE(read(*checkpoint, name)) << name;
  }
  checkpoint->release({});
  const std::byte elsewhere[8192] = {};
  checkpoint->release(elsewhere);
}

TEST(Mapping, AMovedMapGivesBackWhatWaited) {
  const ScratchFolder folder;
  folder.write("bytes", std::string(1 << 20, 'x'));
  auto opened = open_regular(folder.path() / "bytes");
  ASSERT_TRUE(opened);
  auto first = Mapping::map(*opened, folder.path() / "bytes");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->bytes()[0], std::byte{'x'});
  first->release(first->bytes().first(10));
  Mapping second(std::move(*first));
  Mapping third;
  third = std::move(second);
  second.release(third.bytes().first(4096));  // NOLINT: an empty map has nothing to give back
  third.release(third.bytes());
  EXPECT_EQ(mapped_bytes(folder.path()), 0U);
}

}  // namespace
}  // namespace bv::io
