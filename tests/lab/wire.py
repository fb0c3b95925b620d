"""Reads packets from a pcap file and takes them apart by the RFCs' layouts, without help from the
programs under test: the tests compare what was asked for with what these functions find."""
import ipaddress
import struct

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132


def internet_checksum(data):
    """RFC 1071: 0 over data that contains its right checksum."""
    if len(data) % 2:
        data += b'\0'
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def _crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _crc32c_table()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


class Packet:
    """An IP packet. `header` and `payload` are those of IP, `data` is what follows the transport
    header. Fields that a protocol does not have are None."""

    def __init__(self, raw, when):
        self.raw = raw
        self.when = when
        self.family = raw[0] >> 4
        self.source_port = self.port = self.type = self.code = None
        self.identifier = self.sequence = self.flow_label = None
        if self.family == 4:
            self._read_ipv4()
        else:
            self._read_ipv6()
        if not self.fragment:
            self._read_transport()

    def _read_ipv4(self):
        raw = self.raw
        self.header_bytes = (raw[0] & 15) * 4
        self.tos, self.size, self.ip_id, fragment, self.ttl, self.protocol = struct.unpack(
            '!xBHHHBB', raw[:10])
        self.dont_fragment = bool(fragment & 0x4000)
        self.fragment = bool(fragment & 0x3fff)
        self.source = ipaddress.ip_address(raw[12:16])
        self.destination = ipaddress.ip_address(raw[16:20])
        self.header_right = internet_checksum(raw[:self.header_bytes]) == 0
        self.payload = raw[self.header_bytes:self.size]

    def _read_ipv6(self):
        raw = self.raw
        first, length, self.protocol, self.ttl = struct.unpack('!IHBB', raw[:8])
        self.header_bytes = 40
        self.tos = first >> 20 & 0xff
        self.flow_label = first & 0xfffff
        self.size = 40 + length
        self.source = ipaddress.ip_address(raw[8:24])
        self.destination = ipaddress.ip_address(raw[24:40])
        self.header_right = True
        self.dont_fragment = None
        self.fragment = False
        self.payload = raw[40:self.size]
        if self.protocol == 44:
            self.fragment = True
            self.protocol = self.payload[0]

    def _read_transport(self):
        p = self.payload
        self.data = b''
        if self.protocol in (ICMP, ICMP6) and len(p) >= 8:
            self.type, self.code, self.checksum, self.identifier, self.sequence = struct.unpack(
                '!BBHHH', p[:8])
            self.data = p[8:]
        elif self.protocol == UDP and len(p) >= 8:
            self.source_port, self.port, self.length, self.checksum = struct.unpack(
                '!HHHH', p[:8])
            self.data = p[8:]
        elif self.protocol == TCP and len(p) >= 20:
            (self.source_port, self.port, self.sequence, self.acknowledgement, offset, self.flags,
             self.window, self.checksum, self.urgent) = struct.unpack('!HHIIBBHHH', p[:20])
            self.options = p[20:offset >> 2 & ~3]
            self.data = p[offset >> 2 & ~3:]
        elif self.protocol == SCTP and len(p) >= 12:
            self.source_port, self.port, self.tag = struct.unpack('!HHI', p[:8])
            self.checksum = struct.unpack('<I', p[8:12])[0]
            self.data = p[12:]

    def pseudo_header(self):
        if self.family == 4:
            return (self.source.packed + self.destination.packed +
                    struct.pack('!BBH', 0, self.protocol, len(self.payload)))
        return (self.source.packed + self.destination.packed +
                struct.pack('!IHBB', len(self.payload), 0, 0, self.protocol))

    def transport_right(self):
        """Whether the transport's checksum is right (and, for UDP, there)."""
        if self.protocol == SCTP:
            return crc32c(self.payload[:8] + bytes(4) + self.payload[12:]) == self.checksum
        if self.protocol == ICMP:
            return internet_checksum(self.payload) == 0
        if self.protocol == UDP and self.checksum == 0:
            return False
        return internet_checksum(self.pseudo_header() + self.payload) == 0

    def __repr__(self):
        return '<%s > %s proto %d ttl %d size %d ports %s %s>' % (
            self.source, self.destination, self.protocol, self.ttl, self.size, self.source_port,
            self.port)


def read_pcap(path):
    """The IP packets of a capture of Ethernet or of raw IP, in their order."""
    with open(path, 'rb') as file:
        data = file.read()
    order = '<' if data[:4] in (b'\xd4\xc3\xb2\xa1', b'\x4d\x3c\xb2\xa1') else '>'
    fraction = 1e-9 if data[:4] in (b'\x4d\x3c\xb2\xa1', b'\xa1\xb2\x3c\x4d') else 1e-6
    link = struct.unpack(order + 'I', data[20:24])[0] & 0xffff
    packets = []
    at = 24
    while at + 16 <= len(data):
        seconds, parts, kept, _ = struct.unpack(order + 'IIII', data[at:at + 16])
        frame = data[at + 16:at + 16 + kept]
        at += 16 + kept
        if link == 1:
            if frame[12:14] not in (b'\x08\x00', b'\x86\xdd'):
                continue
            frame = frame[14:]
        if len(frame) >= 20:
            packets.append(Packet(frame, seconds + parts * fraction))
    return packets
