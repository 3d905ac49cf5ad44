#include "base/bytes.h"

#include <gtest/gtest.h>

namespace nullbox {

TEST(Bytes, RoundTripAndBounds) {
    ByteWriter writer;
    writer.number(uint16_t{0x1234}).number(uint32_t{5});
    ByteReader reader(writer.view());
    EXPECT_EQ(reader.number<uint16_t>(), 0x1234);
    EXPECT_EQ(reader.number<uint32_t>(), 5u);
    EXPECT_FALSE(reader.failed());
    EXPECT_EQ(reader.number<uint8_t>(), 0);
    EXPECT_TRUE(reader.failed());
}

TEST(Bytes, AFailedReaderStaysFailed) {
    std::byte two[2]{};
    ByteReader reader(two);
    EXPECT_EQ(reader.number<uint32_t>(), 0u);
    EXPECT_EQ(reader.number<uint8_t>(), 0);
    EXPECT_TRUE(reader.failed());
}

} // namespace nullbox
