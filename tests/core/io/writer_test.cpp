#include "core/io/writer.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "core/io/checkpoint.hpp"
#include "core/io/mapped_file.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using support::file_text;
using testing::as_bytes;
using testing::outcome;
using testing::ScratchFolder;

std::string bytes_of(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(
        static_cast<unsigned char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// 287 bytes of the reference writer (docs/reference/formats.md#writing).
TEST(SafetensorsPlan, EqualsTheGoldenVectorOfTheReferenceWriter) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"e\")"
      "\u00e9"
      R"(\n":{"dtype":"F32","shape":[0,4],"data_offsets":[8,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]},"z":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}})";
  const std::vector<TensorSpec> tensors = {{"z", DType::U8, {3}},
                                           {"b", DType::BF16, {1, 2}},
                                           {"e\"\u00e9\n", DType::F32, {0, 4}},
                                           {"a", DType::F32, {2}}};
  const auto plan = plan_safetensors(tensors, {{"format", "pt"}});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->header, testing::length_word(264) + header + std::string(7, ' '));
  EXPECT_EQ(plan->file_size, 287u);
  EXPECT_EQ(plan->offsets, (std::vector<std::uint64_t>{272, 280, 280, 284}));

  const ScratchFolder folder;
  const fs::path path = folder.path() / "golden.safetensors";
  auto file = PendingFile::create(path, plan->file_size);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->write_at(0, as_bytes(plan->header)));
  const std::vector<std::string> data = {bytes_of("0000803f00000040"), "", bytes_of("803f0040"),
                                         bytes_of("070809")};
  for (std::size_t i = 0; i < data.size(); ++i) {
    ASSERT_TRUE(file->write_at(plan->offsets[i], as_bytes(data[i])));
  }
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(file_text(path), plan->header + bytes_of("0000803f00000040803f0040070809"));
  EXPECT_EQ(outcome(Checkpoint::open(path, true)), "accepted");
}

TEST(SafetensorsPlan, NothingGivesTheSixteenBytesOfTheReference) {
  const auto plan = plan_safetensors({}, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->header, testing::length_word(8) + "{}      ");
  EXPECT_EQ(plan->file_size, 16u);
}

TEST(SafetensorsPlan, DoesNotDependOnTheOrderOfItsInput) {
  std::vector<TensorSpec> tensors = {{"a", DType::BF16, {2}},
                                     {"b", DType::I64, {1}},
                                     {"c", DType::Bool, {5}},
                                     {"d", DType::BF16, {1}}};
  const auto first = plan_safetensors(tensors, {});
  std::reverse(tensors.begin(), tensors.end());
  const auto second = plan_safetensors(tensors, {});
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->header, second->header);
}

TEST(SafetensorsPlan, AlignsTheDataByPaddingTheHeader) {
  const auto plan = plan_safetensors({{"a", DType::U8, {3}}}, {}, 4096);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->offsets[0], 4096u);
  EXPECT_EQ(plan->header.size(), 4096u);
  const std::string file = plan->header + "abc";
  EXPECT_EQ(outcome(parse_safetensors_header(as_bytes(file), file.size(), "X")), "accepted");
}

TEST(SafetensorsPlan, RefusesWhatTheFormatCannotHold) {
  const auto code = [](std::vector<TensorSpec> tensors,
                       const std::map<std::string, std::string>& metadata = {}) {
    return outcome(plan_safetensors(std::move(tensors), metadata));
  };
  const std::int64_t huge = std::int64_t{1} << 60;
  EXPECT_EQ(code({{"a", DType::U8, {1}}, {"a", DType::I8, {1}}}), "BV7009");
  EXPECT_EQ(code({{"a", DType::U8, {-1}}}), "BV7015");
  EXPECT_EQ(code({{"a", DType::U8, {huge, 8}}}), "BV7015");
  EXPECT_EQ(code({{"a", DType::F4, {3}}}), "BV7015");
  EXPECT_EQ(code({{"a", DType::U8, {huge - 1}},
                  {"b", DType::U8, {huge - 1}},
                  {"c", DType::U8, {huge - 1}},
                  {"d", DType::U8, {huge - 1}},
                  {"e", DType::U8, {huge - 1}}}),
            "BV7015");
  EXPECT_EQ(code({{"\xff", DType::U8, {1}}}), "BV7005");
  EXPECT_EQ(code({{"__metadata__", DType::U8, {1}}}), "BV7005");
  EXPECT_EQ(code({}, {{"k", "\xff"}}), "BV7005");
  EXPECT_EQ(code({}, {{"k", std::string(100'000'001, 'v')}}), "BV8015");
}

/// Every file of the real checkpoints, parsed and planned again, gives the bytes that safetensors
/// itself wrote.
TEST(SafetensorsPlan, GivesTheHeadersOfAllGoldenFiles) {
  std::size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(BV_FIXTURES) / "golden")) {
    if (entry.path().extension() != ".safetensors") {
      continue;
    }
    ++files;
    const std::string bytes = file_text(entry.path());
    const auto header =
        parse_safetensors_header(as_bytes(bytes), bytes.size(), entry.path().string());
    ASSERT_TRUE(header) << testing::shown(header.error());
    EXPECT_TRUE(header->findings.empty());
    std::vector<TensorSpec> specs;
    for (const StoredTensor& tensor : header->tensors) {
      specs.push_back(tensor.spec);
    }
    const auto plan = plan_safetensors(std::move(specs), header->metadata);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->header, bytes.substr(0, header->data_begin)) << entry.path();
    EXPECT_EQ(plan->file_size, bytes.size());
  }
  EXPECT_GE(files, 70u);
}

TEST(PendingFile, AppearsUnderItsNameOnlyWhenCommitted) {
  const ScratchFolder folder;
  const fs::path path = folder.path() / "out.bin";
  auto file = PendingFile::create(path, 6);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->write_at(3, as_bytes("def")));
  ASSERT_TRUE(file->write_at(0, as_bytes("abc")));
  EXPECT_FALSE(fs::exists(path));
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(file_text(path), "abcdef");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"out.bin"});
}

TEST(PendingFile, LeavesNothingWhenDropped) {
  const ScratchFolder folder;
  {
    auto file = PendingFile::create(folder.path() / "out.bin", 6);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write_at(0, as_bytes("abc")));
    auto moved = *std::move(file);
    EXPECT_EQ(names_in(folder.path()).size(), 1u);
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(PendingFile, BytesNeverWrittenAreZero) {
  const ScratchFolder folder;
  auto file = PendingFile::create(folder.path() / "out.bin", 4);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->write_at(3, as_bytes("x")));
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(file_text(folder.path() / "out.bin"), std::string("\0\0\0x", 4));
}

TEST(PendingFile, TakesWritesOfManyThreads) {
  const ScratchFolder folder;
  auto file = PendingFile::create(folder.path() / "out.bin", 8'000);
  ASSERT_TRUE(file);
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = t; i < 1'000; i += 4) {
        const std::string text(8, static_cast<char>('a' + static_cast<char>(i % 26)));
        failures += file->write_at(i * 8, as_bytes(text)) ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(failures, 0);
  const std::string bytes = file_text(folder.path() / "out.bin");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    ASSERT_EQ(bytes[i], static_cast<char>('a' + static_cast<char>(i / 8 % 26))) << i;
  }
}

TEST(PendingFile, TwoOfOneNameDoNotMeet) {
  const ScratchFolder folder;
  const fs::path path = folder.path() / "out.bin";
  auto first = PendingFile::create(path, 1);
  auto second = PendingFile::create(path, 1);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(first->write_at(0, as_bytes("1")));
  ASSERT_TRUE(second->write_at(0, as_bytes("2")));
  ASSERT_TRUE(first->commit());
  EXPECT_EQ(outcome(second->commit()), "BV8006");
  EXPECT_EQ(file_text(path), "1");
}

TEST(PendingFile, RefusesAnExistingNameUnlessToldToReplace) {
  const ScratchFolder folder;
  const fs::path path = folder.write("out.bin", "old");
  EXPECT_EQ(outcome(PendingFile::create(path, 3)), "BV8006");
  fs::create_symlink("nowhere", folder.path() / "link.bin");
  EXPECT_EQ(outcome(PendingFile::create(folder.path() / "link.bin", 3)), "BV8006");
  auto file = PendingFile::create(path, 3, IfExists::Replace);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->write_at(0, as_bytes("new")));
  EXPECT_EQ(file_text(path), "old");
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(file_text(path), "new");
}

TEST(PendingFile, NoticesAForeignWriterAtCommit) {
  const ScratchFolder folder;
  auto file = PendingFile::create(folder.path() / "out.bin", 8);
  ASSERT_TRUE(file);
  fs::resize_file(folder.path() / names_in(folder.path())[0], 4);
  EXPECT_EQ(outcome(file->commit()), "BV3006");
}

TEST(PendingFile, FolderThatIsNotThereIsAnError) {
  const ScratchFolder folder;
  EXPECT_EQ(outcome(PendingFile::create(folder.path() / "no" / "out.bin", 1)), "BV3006");
}

TEST(PendingFile, FileSystemThatIsReadOnlyIsAPermission) {
  // /proc takes no new files from anyone, root included.
  const auto code = outcome(PendingFile::create("/proc/self/fdinfo/out.bin", 1));
  EXPECT_TRUE(code == "BV8005" || code == "BV3006") << code;
}

/// No disk of this world has the room: the answer comes before a byte is reserved.
TEST(PendingFile, FileLargerThanTheDiskIsADiskFull) {
  const ScratchFolder folder;
  const auto file = PendingFile::create(folder.path() / "out.bin", std::uint64_t{1} << 61);
  ASSERT_EQ(outcome(file), "BV8001");
  EXPECT_THAT(file.error().message, ::testing::HasSubstr("disk full writing"));
  EXPECT_THAT(file.error().message, ::testing::ContainsRegex("needs [0-9.]+ TB more"));
  EXPECT_TRUE(names_in(folder.path()).empty());
}

/// The kernel's own full disk: /dev/full answers every write with ENOSPC.
TEST(WriteAll, FullDiskNamesTheBytesStillNeeded) {
  const Descriptor full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_GE(full.number(), 0);
  const auto status = write_all(full.number(), 0, as_bytes("abc"), 2'800'000'000, "out.bin");
  ASSERT_EQ(outcome(status), "BV8001");
  EXPECT_EQ(status.error().message, "disk full writing out.bin (needs 2.8 GB more)");
  EXPECT_NE(status.error().help, "");
}

TEST(WriteAll, DescriptorThatCannotBeWrittenIsAWriteLost) {
  const Descriptor zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(outcome(write_all(zero.number(), 0, as_bytes("abc"), 3, "out.bin")), "BV3006");
}

class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &old_), 0);
    struct rlimit now = old_;
    now.rlim_cur = bytes;
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &now), 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  struct rlimit old_ {};
};

/// Above the limit the kernel would end the process by SIGXFSZ.
TEST(PendingFile, FileAboveTheLimitOfTheProcessIsADiskFull) {
  const ScratchFolder folder;
  const FileSizeLimit limit(1'000);
  EXPECT_EQ(outcome(PendingFile::create(folder.path() / "small.bin", 1'000)), "accepted");
  const auto file = PendingFile::create(folder.path() / "large.bin", 1'001);
  ASSERT_EQ(outcome(file), "BV8001");
  EXPECT_THAT(
      file.error().facts,
      ::testing::ElementsAre("the limit of this process is 1,000 bytes a file (ulimit -f)"));
}

TEST(PendingFileDeathTest, WriteBeyondItsSizeIsOurOwnFault) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const ScratchFolder folder;
  auto file = PendingFile::create(folder.path() / "out.bin", 2);
  ASSERT_TRUE(file);
  EXPECT_DEATH(static_cast<void>(file->write_at(1, as_bytes("xy"))), "BV9001");
}

TEST(SmallFile, IsWrittenReadAndReplaced) {
  const ScratchFolder folder;
  const fs::path path = folder.path() / "a.json";
  ASSERT_TRUE(write_file(path, "{}"));
  ASSERT_TRUE(write_file(path, "{\"a\":1}"));
  const auto text = read_file(path, 7);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "{\"a\":1}");
  ASSERT_TRUE(write_file(path, ""));
  EXPECT_EQ(*read_file(path, 0), "");
}

TEST(SmallFile, ReadingRefusesWhatIsTooLargeAbsentOrNoFile) {
  const ScratchFolder folder;
  const fs::path path = folder.write("a.json", "12345678");
  EXPECT_EQ(outcome(read_file(path, 7)), "BV8007");
  EXPECT_EQ(outcome(read_file(folder.path() / "none", 7)), "BV8007");
  EXPECT_EQ(outcome(read_file(folder.path(), 7)), "BV8007");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(outcome(read_file(folder.path() / "pipe", 7)), "BV8007");
}

/// What the system makes up when it is read (the environment of a process) is no input.
TEST(SmallFile, FilesThatHaveNoSizeAndHoldSomethingAreRefused) {
  for (const char* path : {"/proc/self/maps", "/proc/self/environ"}) {
    const auto text = read_file(path, 64u << 20);
    ASSERT_FALSE(text) << path;
    EXPECT_EQ(text.error().message.find("PATH="), std::string::npos);
  }
}

}  // namespace
}  // namespace bv::io
