#include "core/pickle/zip.hpp"

#include <gtest/gtest.h>

#include "core/pickle/crc32.hpp"
#include "tests/core/pickle/small_archive.hpp"

namespace bv::pickle {
namespace {

SmallArchive small() {
  return {{{"a/data.pkl", "hello"}, {"a/data/0", "12345678"}, {"a/version", "3\n"}}};
}

/// The end of the message of a refused archive; "" for one that is taken.
std::string zip_fault(const SmallArchive& archive) {
  const std::string bytes = archive.bytes();
  const auto opened = Archive::open(as_span(bytes), "f");
  if (opened) {
    return "";
  }
  EXPECT_EQ(opened.error().code, Code::ZipInvalid);
  constexpr std::string_view kHead = "f is not an archive of torch.save: ";
  EXPECT_TRUE(opened.error().message.starts_with(kHead)) << opened.error().message;
  return opened.error().message.substr(kHead.size());
}

TEST(Zip, GivesTheBytesOfItsRecordsByName) {
  const std::string bytes = small().bytes();
  const auto archive = Archive::open(as_span(bytes), "f");
  ASSERT_TRUE(archive.has_value()) << archive.error().message;
  EXPECT_EQ(archive->folder(), "a");
  ASSERT_EQ(archive->records().size(), 3U);
  const Record* const record = archive->find("data/0");
  ASSERT_NE(record, nullptr);
  const auto data = archive->bytes(*record);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), data.size()), "12345678");
  EXPECT_EQ(crc32(data), record->crc);
  EXPECT_EQ(archive->find("data/1"), nullptr);
}

TEST(Zip, ACommentBehindTheEndIsTaken) {
  SmallArchive archive = small();
  archive.comment = "PK\x05\x06 not the end";
  EXPECT_EQ(zip_fault(archive), "");
}

TEST(Zip, EveryCutOfAnArchiveIsRefused) {
  const std::string bytes = small().bytes();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto opened = Archive::open(as_span(bytes).first(size), "f");
    ASSERT_FALSE(opened.has_value()) << size;
    ASSERT_EQ(opened.error().code, Code::ZipInvalid);
  }
}

TEST(Zip, NamesThatClimbAreRefused) {
  for (const char* name : {"a/../../etc/passwd", "/a/x", "a//x", "a/./x", "a\\x", "", "a/"}) {
    SmallArchive archive = small();
    archive.records.push_back({name, "x"});
    EXPECT_NE(zip_fault(archive).find("has a name that leads out of it"), std::string::npos)
        << name;
  }
  SmallArchive archive = small();
  archive.records.push_back({std::string("a/x\0y", 5), "x"});
  EXPECT_EQ(zip_fault(archive), "record \"a/x\\x00y\" has a name that leads out of it");
}

TEST(Zip, NamesOutsideTheFolderTwiceOrNotThoseOfTheirHeaderAreRefused) {
  SmallArchive other = small();
  other.records.push_back({"b/x", "x"});
  EXPECT_EQ(zip_fault(other), "record \"b/x\" is not below \"a\"");
  SmallArchive bare = small();
  bare.records.push_back({"x", "x"});
  EXPECT_EQ(zip_fault(bare), "record \"x\" is not below \"a\"");
  SmallArchive twice = small();
  twice.records.push_back({"a/version", "4\n"});
  EXPECT_EQ(zip_fault(twice), "record \"version\" appears twice");
  SmallArchive renamed = small();
  renamed.records[1].local_name = "a/data/1";
  EXPECT_EQ(zip_fault(renamed), "record \"a/data/0\" has another name in its header");
}

TEST(Zip, CompressedAndEncryptedRecordsAreRefused) {
  SmallArchive packed = small();
  packed.records[1].method = 8;
  EXPECT_EQ(zip_fault(packed), "record \"a/data/0\" is compressed or encrypted");
  SmallArchive locked = small();
  locked.records[1].flags |= 1;
  EXPECT_EQ(zip_fault(locked), "record \"a/data/0\" is compressed or encrypted");
}

TEST(Zip, RecordsThatLeaveTheArchiveOrLieOnOneAnotherAreRefused) {
  SmallArchive longer = small();
  longer.records[0].more_size = 1;
  EXPECT_EQ(zip_fault(longer).substr(0, 26), "two records overlap at byt");
  SmallArchive huge = small();
  huge.records[2].more_size = 0x7FFFFFFF;
  EXPECT_EQ(zip_fault(huge), "record \"a/version\" reaches out of it");
  SmallArchive far = small();
  far.records[2].more_offset = 0x7FFFFFFF;
  EXPECT_EQ(zip_fault(far), "record \"a/version\" has no header");
  SmallArchive quoted = small();  // one header for two names
  quoted.records[1].more_offset = -44;
  EXPECT_NE(zip_fault(quoted), "");
}

TEST(Zip, ADirectoryThatLiesIsRefused) {
  SmallArchive more = small();
  more.more_count = 1;
  EXPECT_NE(zip_fault(more), "");
  SmallArchive many = small();
  many.more_count = 60000;
  EXPECT_NE(zip_fault(many), "");
  SmallArchive moved = small();
  moved.more_directory = 0x7FFFFFFF;
  EXPECT_EQ(zip_fault(moved), "its directory reaches out of it");
  SmallArchive saturated = small();
  saturated.records[0].more_size = std::int64_t{0xFFFFFFFF} - 5;
  EXPECT_EQ(zip_fault(saturated), "record \"a/data.pkl\" has no 64-bit sizes");
}

/// Any byte may be any other: an error or an archive whose records lie inside, never more.
TEST(Zip, EveryByteMayBeDamaged) {
  const std::string bytes = small().bytes();
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const int with : {0x00, 0x01, 0x50, 0x7F, 0x80, 0xFF}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(with);
      const auto opened = Archive::open(as_span(damaged), "f");
      for (std::size_t i = 0; opened && i < opened->records().size(); ++i) {
        const Record& record = opened->records()[i];
        ASSERT_LE(record.begin, damaged.size());
        ASSERT_LE(record.size, damaged.size() - record.begin);
      }
    }
  }
}

}  // namespace
}  // namespace bv::pickle
