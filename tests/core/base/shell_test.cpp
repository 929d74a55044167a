#include "core/base/shell.hpp"

#include <gtest/gtest.h>

namespace bv {
namespace {

TEST(ShellQuoted, LeavesPlainWordsAlone) {
  for (const char* word : {"model", "a/b.c-d_e", "1,2,4", "tp2pp1ep1etp1", "--x=1", "@x:y+z%"}) {
    EXPECT_EQ(shell_quoted(word), word);
  }
}

TEST(ShellQuoted, QuotesWhatAShellWouldRead) {
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("my model"), "'my model'");
  EXPECT_EQ(shell_quoted("*x*"), "'*x*'");
  EXPECT_EQ(shell_quoted("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quoted("$HOME"), "'$HOME'");
  EXPECT_EQ(shell_quoted("~"), "'~'");
  EXPECT_EQ(shell_quoted("=x"), "'=x'");
  EXPECT_EQ(shell_quoted("m\u00f6del"), "'m\u00f6del'");
}

TEST(ShellQuoted, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(shell_quoted("a\nb"), "'a'$'\\x0a''b'");
  EXPECT_EQ(shell_quoted("\x1b[2J"), "''$'\\x1b''[2J'");
  EXPECT_EQ(shell_quoted("\xff"), "''$'\\xff'''");
  EXPECT_EQ(shell_quoted("\u202e"), "''$'\\xe2\\x80\\xae'''");
  EXPECT_EQ(shell_quoted("a\u200b"), "'a'$'\\xe2\\x80\\x8b'''");  // as messages escape it
}

}  // namespace
}  // namespace bv
